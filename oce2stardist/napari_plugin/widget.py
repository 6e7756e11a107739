"""Lead from open images to predicted cells in five steps, in a dock widget."""

import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QScrollArea, QVBoxLayout, QWidget

from oce2stardist.errors import InputError, one_line, plural
from oce2stardist.images.label_files import read_labels
from oce2stardist.labels import UNLABELLED
from oce2stardist.napari_plugin.connections import Connections
from oce2stardist.napari_plugin.corrections import (
    Corrections,
    carry_over,
    confirm_cell,
    find_corrections,
)
from oce2stardist.napari_plugin.image_table import ImageTable
from oce2stardist.napari_plugin.job import Job, Outcome
from oce2stardist.napari_plugin.job_panel import JobPanel
from oce2stardist.napari_plugin.layers import (
    KEY,
    name_stems,
    notes_of,
    placed_like,
    read_cells,
    read_plane,
)
from oce2stardist.napari_plugin.steps import (
    CellsStep,
    FinetuneStep,
    ImagesStep,
    PredictStep,
    PseudoStep,
)
from oce2stardist.napari_plugin.work_folder import WorkFolder

if TYPE_CHECKING:
    from napari.viewer import Viewer

_WAIT_BEFORE_COUNTING = 500
"""Milliseconds after the last brush stroke."""


def _said_in_one_line(step: Callable[..., None]) -> Callable[..., None]:
    """Show bad input as one line in place of an exception."""

    @wraps(step)
    def guarded(self: "StepsWidget", *arguments: Any) -> None:
        try:
            step(self, *arguments)
        except (InputError, OSError) as error:
            self.panel.refuse(one_line(error))

    return guarded


class StepsWidget(QWidget):
    """Offers images, pseudo labels, corrections, training and prediction; see docs/napari.md."""

    def __init__(self, napari_viewer: "Viewer") -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._when_done: Callable[[dict[str, Any]], None] | None = None
        self.job = Job()  # no child of the widget, which would kill it
        self._connections = Connections()
        self.panel = JobPanel(self.job)
        self.table = ImageTable(napari_viewer, self._connections)
        self.images = ImagesStep(self.table)
        self.pseudo = PseudoStep()
        self.cells = CellsStep()
        self.finetune = FinetuneStep()
        self.predict = PredictStep()
        self._lay_out()
        self._connect()
        self._count()

    def _lay_out(self) -> None:
        steps = QWidget()
        column = QVBoxLayout(steps)
        column.setContentsMargins(0, 0, 0, 0)
        for step in (self.images, self.pseudo, self.cells, self.finetune, self.predict):
            column.addWidget(step)
        column.addStretch()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(steps)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        bar = scroll.verticalScrollBar().sizeHint().width()
        scroll.setMinimumWidth(steps.minimumSizeHint().width() + bar)
        layout = QVBoxLayout(self)
        layout.addWidget(scroll, stretch=1)
        layout.addWidget(self.panel)

    def _connect(self) -> None:
        self.pseudo.button.clicked.connect(lambda: self._make_pseudo_labels())
        self.cells.draw_button.clicked.connect(lambda: self._draw_cells())
        self.cells.confirm_button.clicked.connect(lambda: self._confirm())
        self.finetune.button.clicked.connect(lambda: self._finetune())
        self.predict.button.clicked.connect(lambda: self._predict())
        self.job.ended.connect(self._end)
        self._counting = QTimer(self, singleShot=True, interval=_WAIT_BEFORE_COUNTING)
        self._counting.timeout.connect(self._count)
        self.table.changed.connect(self._counting.start)
        self._connections.add(self._viewer.layers.events.inserted, self._follow_strokes)
        for layer in self._viewer.layers:
            self._follow(layer)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.job.close)
        for close in (self.job.close, self._connections.close):
            # Without a reference to the widget, which is half gone by then.
            self.destroyed.connect(lambda _=None, close=close: close())

    # --- step 2

    @_said_in_one_line
    def _make_pseudo_labels(self) -> None:
        images = self._checked_images()
        planes = {stem: read_plane(layer) for stem, layer in images.items()}
        corrections = self._find_corrections(images)
        work = self._open_work()
        work.write_images(planes)
        work.write_annotations(_annotations_of(corrections))
        annotated = any(corrected.n_cells for corrected in corrections.values())
        command = work.make_pseudo_labels(self.pseudo.options(), annotated=annotated)
        self._run("Pseudo labels", command, lambda result: self._show_pseudo_labels(images, result))

    def _show_pseudo_labels(self, images: dict[str, Image], result: dict[str, Any]) -> None:
        run = Path(result["labels"]).parents[1]
        for stem, image in images.items():
            pseudo = read_labels(Path(result["labels"]) / f"{stem}.tif")
            self._put_cells(stem, image, pseudo, run)
        doubt = "" if result["trusted"] in (True, None) else " The run does not trust them."
        self.panel.tell(
            f"{plural(result['n_objects'], 'object')} in {plural(result['n_images'], 'image')}."
            f"{doubt} Correct some "
            "cells (step 3).",
            report=result["report"],
        )

    def _put_cells(self, stem: str, image: Image, pseudo: NDArray[np.int32], run: Path) -> None:
        """Show pseudo labels, with what was drawn before in its place."""
        before = self.table.cells_of(image)
        labels, baseline = pseudo, pseudo.copy()
        if before is not None:
            labels, baseline = carry_over(self._correct(before, image).annotations, pseudo)
        notes = {"stem": stem, "baseline": baseline, "run": str(run)}
        if before is not None and "run" in notes_of(before):
            before.data = labels
            before.metadata[KEY] = notes
            cells = before
        else:
            cells = self._add_labels(f"{image.name} cells", labels, image, notes)
            if before is not None:
                before.visible = False  # its cells are in the new layer
        cells.selected_label = int(labels.max()) + 1  # what is painted next is a new cell
        self.table.set_cells(image, cells)

    # --- step 3

    @_said_in_one_line
    def _draw_cells(self) -> None:
        """Add an empty labels layer to every checked image that has none."""
        images = self._checked_images()
        for stem, image in images.items():
            if self.table.cells_of(image) is None:
                empty = np.zeros(read_plane(image).shape, np.int32)
                notes = {"stem": stem, "baseline": empty.copy()}
                self.table.set_cells(
                    image, self._add_labels(f"{image.name} cells", empty, image, notes)
                )
        cells = self.table.cells_of(next(iter(images.values())))
        assert cells is not None
        self._viewer.layers.selection.active = cells
        cells.selected_label = int(cells.data.max()) + 1
        cells.mode = "paint"
        self.panel.tell("Paint a cell. M takes the next label, E the eraser, P the brush again.")

    @_said_in_one_line
    def _confirm(self) -> None:
        """Let the picked cell count as annotated."""
        layer = self._viewer.layers.selection.active
        if not isinstance(layer, Labels) or not (layer.data == layer.selected_label).any():
            raise InputError(
                "a cell must be picked. Got none; select the cells layer and click the cell with "
                "the colour picker."
            )
        notes = notes_of(layer)
        if "baseline" in notes:
            notes["baseline"] = confirm_cell(layer.data, notes["baseline"], layer.selected_label)
        self._count()

    def _follow_strokes(self, event: Any) -> None:
        self._follow(event.value)

    def _follow(self, layer: Any) -> None:
        if isinstance(layer, Labels):
            self._connections.add(layer.events.labels_update, self._count_soon)
            self._connections.add(layer.events.set_data, self._count_soon)

    def _count_soon(self, event: Any) -> None:
        self._counting.start()

    def _count(self) -> None:
        """Show how many cells count as annotated, or why they can't be counted."""
        try:
            corrections = self._find_corrections(name_stems(self.table.checked_images())).values()
        except InputError as error:
            self.cells.count.setText(str(error))
            return
        n_cells = sum(corrected.n_cells for corrected in corrections)
        self.cells.show_count(n_cells, sum(corrected.n_erased for corrected in corrections))

    # --- step 4

    @_said_in_one_line
    def _finetune(self) -> None:
        images = self._checked_images()
        planes = {stem: read_plane(layer) for stem, layer in images.items()}
        corrections = self._find_corrections(images)
        if not any(corrected.n_cells for corrected in corrections.values()):
            raise InputError(
                "at least one cell must be drawn, changed or confirmed. Got none; correct some "
                "cells first (step 3)."
            )
        run = self._run_of(images)
        work = self._open_work()
        work.write_images(planes)
        work.write_annotations(_annotations_of(corrections))
        command = work.finetune(self.finetune.options(), run=run)
        self._run("Training", command, self._show_model)

    def _run_of(self, images: dict[str, Image]) -> Path | None:
        """Find the run that made the pseudo labels; None if all cells were drawn from scratch."""
        layers = [self.table.cells_of(image) for image in images.values()]
        runs = {notes_of(cells)["run"] for cells in layers if cells and "run" in notes_of(cells)}
        if len(runs) > 1:
            raise InputError(
                "pseudo labels must come from one run. Got "
                f"{' and '.join(sorted(runs))}; make pseudo labels of all checked images (step 2)."
            )
        return Path(runs.pop()) if runs else None

    def _show_model(self, result: dict[str, Any]) -> None:
        self.predict.model.show_folder(Path(result["model"]))
        f1 = result["f1"]
        value = "" if f1["value"] is None else f"F1 {f1['value']:.3f}: "
        self.panel.tell(f"The model is trained ({value}{f1['reason']}).", report=result["report"])

    # --- step 5

    @_said_in_one_line
    def _predict(self) -> None:
        images = self._checked_images()
        planes = {stem: read_plane(layer) for stem, layer in images.items()}
        model = self.predict.model.chosen()
        if model is None:
            raise InputError(
                "there must be a model. Got none; train one (step 4) or choose its folder."
            )
        command = self._open_work().predict(planes, model)
        self._run("Prediction", command, lambda result: self._show_predicted(images, result))

    def _show_predicted(self, images: dict[str, Image], result: dict[str, Any]) -> None:
        for stem, image in images.items():
            labels = read_labels(Path(result["output"]) / f"{stem}.tif")
            name = f"{image.name} predicted"
            if name in self._viewer.layers and isinstance(self._viewer.layers[name], Labels):
                self._viewer.layers[name].data = labels
            else:
                self._add_labels(name, labels, image, {"stem": stem}).contour = 2
        self.panel.tell(
            f"{plural(result['n_cells'], 'cell')} in {plural(result['n_images'], 'image')}: "
            f"{result['output']}"
        )

    # --- what the steps share

    def _checked_images(self) -> dict[str, Image]:
        images = self.table.checked_images()
        if not images:
            raise InputError(
                "at least one image layer must be checked. Got none; open an image and check it "
                "in step 1."
            )
        return name_stems(images)

    def _find_corrections(self, images: dict[str, Image]) -> dict[str, Corrections]:
        """Find what was drawn or changed, for the images that have a labels layer."""
        layers = {stem: self.table.cells_of(image) for stem, image in images.items()}
        return {
            stem: self._correct(layer, images[stem])
            for stem, layer in layers.items()
            if layer is not None
        }

    def _correct(self, layer: Labels, image: Image) -> Corrections:
        labels = read_cells(layer, image)
        baseline = notes_of(layer).get("baseline")
        fits = baseline is not None and baseline.shape == labels.shape
        return find_corrections(labels, baseline if fits else None)

    def _add_labels(
        self, name: str, labels: NDArray[np.int32], image: Image, notes: dict[str, Any]
    ) -> Labels:
        layer: Labels = self._viewer.add_labels(
            labels, name=name, opacity=0.5, metadata={KEY: notes}, **placed_like(image)
        )
        return layer

    def _open_work(self) -> WorkFolder:
        """Open the chosen working folder, or a temporary one, which is then shown."""
        chosen = self.images.folder.chosen()
        if chosen is None:
            chosen = Path(tempfile.mkdtemp(prefix="oce2stardist-"))
            self.images.folder.show_folder(chosen)
        return WorkFolder.claim(chosen)

    def _run(
        self, title: str, command: list[str], when_done: Callable[[dict[str, Any]], None]
    ) -> None:
        self._when_done = when_done
        self._set_enabled(False)
        self.panel.show_start(title)
        self.panel.log.appendPlainText(f"$ oce2stardist {' '.join(command)}")
        self.job.start(command)

    @_said_in_one_line
    def _end(self, outcome: Outcome) -> None:
        self._set_enabled(True)
        self._counting.start()
        if outcome.result is not None and self._when_done is not None:
            self._when_done(outcome.result)

    def _set_enabled(self, is_enabled: bool) -> None:
        """Let one step run at a time; corrections go on."""
        for step in (self.pseudo, self.finetune, self.predict):
            step.button.setEnabled(is_enabled)


def _annotations_of(corrections: dict[str, Corrections]) -> dict[str, NDArray[np.int32]]:
    """Take the annotations of the images of which something is known."""
    return {
        stem: corrected.annotations
        for stem, corrected in corrections.items()
        if (corrected.annotations != UNLABELLED).any()
    }
