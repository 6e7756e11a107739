"""The five boxes of the dock widget: fields and buttons, without what they do."""

from pathlib import Path

from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QWidget,
)

from oce2stardist.config import Config
from oce2stardist.errors import InputError
from oce2stardist.napari_plugin.work_folder import FinetuneSettings, PseudoSettings

_MOST_STEPS = 1_000_000
_FIELD_WIDTH = 120
"""Pixels; napari's style gives numbers less than they need."""


class _Step(QGroupBox):
    """A titled box of labelled fields."""

    def __init__(self, title: str, explanation: str = "") -> None:
        super().__init__(title)
        self.form = QFormLayout(self)
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        if explanation:
            text = QLabel(explanation)
            text.setWordWrap(True)
            self.form.addRow(text)

    def add_button(self, title: str) -> QPushButton:
        button = QPushButton(title)
        self.form.addRow(button)
        return button


class FolderField(QWidget):
    """A line with the path of a folder, and a button that asks for one."""

    def __init__(self, placeholder: str) -> None:
        super().__init__()
        self.line = QLineEdit()
        self.line.setPlaceholderText(placeholder)
        browse = QPushButton("…")
        browse.setFixedWidth(30)
        browse.clicked.connect(self._ask)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.line)
        row.addWidget(browse)

    def folder(self) -> Path | None:
        """Return what was chosen, None if nothing."""
        text = self.line.text().strip()
        return Path(text).expanduser() if text else None

    def set_folder(self, folder: Path) -> None:
        """Show a folder."""
        self.line.setText(str(folder))
        self.line.setToolTip(str(folder))

    def _ask(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Choose a folder", self.line.text())
        if chosen:
            self.set_folder(Path(chosen))


class ImagesStep(_Step):
    """Step 1: which images, and where files go."""

    def __init__(self, table: QWidget) -> None:
        super().__init__("1  Images")
        self.form.addRow(table)
        self._folder = FolderField("a temporary one")
        self._folder.setToolTip("Everything is written here. Drop it into napari to go on later.")
        self.form.addRow("Working folder", self._folder)

    def folder(self) -> Path | None:
        """Return the working folder, None for a temporary one."""
        return self._folder.folder()

    def set_folder(self, folder: Path) -> None:
        """Show the working folder."""
        self._folder.set_folder(folder)


class PseudoStep(_Step):
    """Step 2: what the pseudo labels are made with."""

    def __init__(self) -> None:
        super().__init__("2  Pseudo labels")
        self.diameter = QDoubleSpinBox()
        self.diameter.setRange(0, 5000)
        self.diameter.setMinimumWidth(_FIELD_WIDTH)
        self.diameter.setDecimals(1)
        self.diameter.setSpecialValueText("estimated")
        self.diameter.setSuffix(" px")
        self.diameter.setToolTip("Of a median cell; measured on drawn cells if there are some.")
        self.steps = _steps_field(Config().embedding.steps)
        self.form.addRow("Cell diameter", self.diameter)
        self.form.addRow("Training steps", self.steps)
        self.button = self.add_button("Make pseudo labels")

    def settings(self) -> PseudoSettings:
        """Return what the fields say."""
        return PseudoSettings(self.steps.value(), self.diameter.value() or None)


class CellsStep(_Step):
    """Step 3: how many cells the user drew or changed."""

    def __init__(self) -> None:
        super().__init__(
            "3  Your cells",
            "Draw, repaint, split or erase cells in the labels layer. What you touched is "
            "annotated; the rest stays pseudo.",
        )
        self.count = QLabel()
        self.count.setWordWrap(True)
        self.draw_button = QPushButton("Draw")
        self.draw_button.setToolTip("Paint in the labels layer; an image without one gets one.")
        self.confirm_button = QPushButton("Picked cell is right")
        self.confirm_button.setToolTip(
            "Pick a cell of the labels layer with the colour picker. It then counts as annotated "
            "though you changed nothing."
        )
        row = QHBoxLayout()
        row.addWidget(self.draw_button)
        row.addWidget(self.confirm_button)
        self.form.addRow(row)
        self.form.addRow(self.count)

    def show_count(self, n_cells: int, n_erased: int) -> None:
        """Say how many cells are annotated."""
        erased = f", {n_erased} erased" if n_erased else ""
        self.count.setText(f"{n_cells} annotated cell{'' if n_cells == 1 else 's'}{erased}")

    def show_problem(self, message: str) -> None:
        """Say why cells can't be counted."""
        self.count.setText(message)


class FinetuneStep(_Step):
    """Step 4: what StarDist is trained with."""

    def __init__(self) -> None:
        super().__init__("4  Train StarDist")
        self.alpha = QDoubleSpinBox()
        self.alpha.setRange(-0.05, 1)
        self.alpha.setMinimumWidth(_FIELD_WIDTH)
        self.alpha.setSingleStep(0.05)
        self.alpha.setSpecialValueText("auto")
        self.alpha.setValue(-0.05)
        self.alpha.setToolTip(
            "How much pseudo labels count: 0 trains on your cells alone; auto judges the pseudo "
            "labels on your cells."
        )
        self.steps = _steps_field(Config().stardist.steps)
        self.form.addRow("Pseudo weight (alpha)", self.alpha)
        self.form.addRow("Training steps", self.steps)
        self.button = self.add_button("Train")

    def settings(self) -> FinetuneSettings:
        """Return what the fields say."""
        is_auto = self.alpha.value() < 0
        return FinetuneSettings(self.steps.value(), None if is_auto else self.alpha.value())


class PredictStep(_Step):
    """Step 5: with which model the cells of the checked images are predicted."""

    def __init__(self) -> None:
        super().__init__("5  Predict")
        self._model = FolderField("trained in step 4")
        self.form.addRow("Model", self._model)
        self.button = self.add_button("Predict checked images")

    def model(self) -> Path:
        """Return the folder of the model.

        Raises
        ------
        InputError
            If none was trained or chosen.
        """
        folder = self._model.folder()
        if folder is None:
            raise InputError(
                "there must be a model. Got none; train one (step 4) or choose its folder."
            )
        return folder

    def set_model(self, folder: Path) -> None:
        """Show the model that was trained."""
        self._model.set_folder(folder)


def _steps_field(value: int | None) -> QSpinBox:
    field = QSpinBox()
    field.setRange(1, _MOST_STEPS)
    field.setMinimumWidth(_FIELD_WIDTH)
    assert value is not None
    field.setValue(value)
    return field
