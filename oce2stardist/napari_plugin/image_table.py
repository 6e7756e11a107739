"""Show the table of step 1: the image layers to use, and the labels layers with their cells."""

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari.layers import Image, Labels
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QHeaderView, QTableWidget, QTableWidgetItem

from oce2stardist.napari_plugin.connections import Connections
from oce2stardist.napari_plugin.layers import is_plane, notes_of

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

_NO_CELLS = "(none yet)"
_ROWS_SHOWN = 3


class ImageTable(QTableWidget):
    """Lists the image layers of a viewer, each with a check mark and its labels layer."""

    changed = Signal()  # a check mark, a labels layer, or the list of layers

    def __init__(self, viewer: "Viewer", connections: Connections) -> None:
        super().__init__(0, 2)
        self._viewer = viewer
        self._checked: WeakKeyDictionary[Layer, bool] = WeakKeyDictionary()
        self._cells: WeakKeyDictionary[Layer, Labels | None] = WeakKeyDictionary()
        self._rows: list[Image] = []
        self.setHorizontalHeaderLabels(["Image", "Cells"])
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.verticalHeader().hide()
        self.setFixedHeight(self.verticalHeader().defaultSectionSize() * (_ROWS_SHOWN + 1))
        self.itemChanged.connect(self._note_check)
        self._connections = connections
        layers = viewer.layers.events
        for event in (layers.inserted, layers.removed, layers.reordered):
            connections.add(event, self.refresh)
        connections.add(layers.inserted, self._follow_name)
        for layer in viewer.layers:
            connections.add(layer.events.name, self.refresh)
        self.refresh()

    def checked_images(self) -> list[Image]:
        """List the image layers to use, from the top."""
        return [layer for layer in self._rows if self._checked[layer]]

    def cells_of(self, image: Image) -> Labels | None:
        """Return the labels layer that holds the cells of an image, if there is one."""
        layer = self._cells.get(image)
        return layer if layer in self._viewer.layers else None

    def set_cells(self, image: Image, cells: Labels) -> None:
        """Choose the labels layer of an image."""
        self._cells[image] = cells
        self.refresh()

    def refresh(self, event: object = None) -> None:
        """List the layers again, with what was chosen for them."""
        self._rows = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        labels = [layer for layer in self._viewer.layers if isinstance(layer, Labels)]
        self.blockSignals(True)
        self.setRowCount(len(self._rows))
        for row, image in enumerate(self._rows):
            is_checked = self._checked.setdefault(image, is_plane(image))
            item = QTableWidgetItem(image.name)
            item.setFlags(Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled)
            item.setCheckState(Qt.CheckState.Checked if is_checked else Qt.CheckState.Unchecked)
            item.setToolTip(image.name)
            self.setItem(row, 0, item)
            self.setCellWidget(row, 1, self._choice_of_cells(image, labels))
        self.blockSignals(False)
        self.changed.emit()

    def _choice_of_cells(self, image: Image, labels: list[Labels]) -> QComboBox:
        if self.cells_of(image) is None:
            self._cells[image] = _find_cells(image, labels)
        box = QComboBox()
        box.addItem(_NO_CELLS)
        box.addItems([layer.name for layer in labels])
        chosen = self._cells[image]
        box.setCurrentIndex(labels.index(chosen) + 1 if chosen in labels else 0)

        def choose(index: int) -> None:
            self._cells[image] = labels[index - 1] if index > 0 else None
            self.changed.emit()

        box.activated.connect(choose)
        return box

    def _note_check(self, item: QTableWidgetItem) -> None:
        if item.column() == 0:
            is_checked = item.checkState() == Qt.CheckState.Checked
            self._checked[self._rows[item.row()]] = is_checked
            self.changed.emit()

    def _follow_name(self, event: Any) -> None:
        self._connections.add(event.value.events.name, self.refresh)


def _find_cells(image: Image, labels: list[Labels]) -> Labels | None:
    """Find the labels layer that was made, or read, for an image."""
    stem = notes_of(image).get("stem")
    for layer in labels:
        notes = notes_of(layer)
        if stem is not None and notes.get("stem") == stem and "baseline" in notes:
            return layer
    return None
