"""Lay out the five boxes of the dock widget: fields and buttons, without what they do."""

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
            self.form.addRow(QLabel(explanation, wordWrap=True))

    def add_button(self, title: str) -> QPushButton:
        button = QPushButton(title)
        self.form.addRow(button)
        return button


class FolderField(QWidget):
    """A line with the path of a folder, and a button that asks for one."""

    def __init__(self, placeholder: str) -> None:
        super().__init__()
        self.line = QLineEdit(placeholderText=placeholder)
        browse = QPushButton("…")
        browse.setFixedWidth(30)
        browse.clicked.connect(self._ask)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.line)
        row.addWidget(browse)

    def chosen(self) -> Path | None:
        """Return what was chosen, None if nothing."""
        text = self.line.text().strip()
        return Path(text).expanduser() if text else None

    def show_folder(self, folder: Path) -> None:
        """Show a folder."""
        self.line.setText(str(folder))
        self.line.setToolTip(str(folder))

    def _ask(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Choose a folder", self.line.text())
        if chosen:
            self.show_folder(Path(chosen))


class ImagesStep(_Step):
    """Step 1: which images, and where files go."""

    def __init__(self, table: QWidget) -> None:
        super().__init__("1  Images")
        self.form.addRow(table)
        self.folder = FolderField("a temporary one")
        self.folder.setToolTip("Everything is written here. Drop it into napari to go on later.")
        self.form.addRow("Working folder", self.folder)


class PseudoStep(_Step):
    """Step 2: what the pseudo labels are made with."""

    def __init__(self) -> None:
        super().__init__("2  Pseudo labels")
        self.diameter = QDoubleSpinBox(maximum=5000.0, decimals=1, suffix=" px")
        self.diameter.setMinimumWidth(_FIELD_WIDTH)
        self.diameter.setSpecialValueText("estimated")
        self.diameter.setToolTip("Of a median cell; measured on drawn cells if there are some.")
        self.steps = _steps_field(Config().embedding.usual_steps)
        self.form.addRow("Cell diameter", self.diameter)
        self.form.addRow("Training steps", self.steps)
        self.button = self.add_button("Make pseudo labels")

    def options(self) -> list[str]:
        """Return what the fields say as options of the command."""
        diameter = self.diameter.value()
        options = ["--steps", str(self.steps.value())]
        return [*options, "--diameter", str(diameter)] if diameter else options


class CellsStep(_Step):
    """Step 3: how many cells the user drew or changed."""

    def __init__(self) -> None:
        super().__init__(
            "3  Your cells",
            "Draw, repaint, split or erase cells in the labels layer. What you touched is "
            "annotated; the rest stays pseudo.",
        )
        self.count = QLabel(wordWrap=True)
        tip = "Paint in the labels layer; an image without one gets one."
        self.draw_button = QPushButton("Draw", toolTip=tip)
        tip = (
            "Pick a cell of the labels layer with the colour picker. It then counts as annotated "
            "though you changed nothing."
        )
        self.confirm_button = QPushButton("Picked cell is right", toolTip=tip)
        row = QHBoxLayout()
        row.addWidget(self.draw_button)
        row.addWidget(self.confirm_button)
        self.form.addRow(row)
        self.form.addRow(self.count)

    def show_count(self, n_cells: int, n_erased: int) -> None:
        """Say how many cells are annotated."""
        erased = f", {n_erased} erased" if n_erased else ""
        self.count.setText(f"{n_cells} annotated cell{'' if n_cells == 1 else 's'}{erased}")


class FinetuneStep(_Step):
    """Step 4: what StarDist is trained with."""

    def __init__(self) -> None:
        super().__init__("4  Train StarDist")
        self.alpha = QDoubleSpinBox(minimum=-0.05, maximum=1.0, singleStep=0.05, value=-0.05)
        self.alpha.setMinimumWidth(_FIELD_WIDTH)
        self.alpha.setSpecialValueText("auto")
        self.alpha.setToolTip(
            "How much pseudo labels count: 0 trains on your cells alone; auto judges the pseudo "
            "labels on your cells."
        )
        self.steps = _steps_field(Config().stardist.filled(from_nothing=False).steps)
        self.form.addRow("Pseudo weight (alpha)", self.alpha)
        self.form.addRow("Training steps", self.steps)
        self.button = self.add_button("Train")

    def options(self) -> list[str]:
        """Return what the fields say as options of the command."""
        alpha = self.alpha.value()
        options = ["--steps", str(self.steps.value())]
        return options if alpha < 0 else [*options, "--alpha", str(alpha)]


class PredictStep(_Step):
    """Step 5: with which model the cells of the checked images are predicted."""

    def __init__(self) -> None:
        super().__init__("5  Predict")
        self.model = FolderField("trained in step 4")
        self.form.addRow("Model", self.model)
        self.button = self.add_button("Predict checked images")


def _steps_field(steps: int | None) -> QSpinBox:
    assert steps is not None
    field = QSpinBox(minimum=1, maximum=_MOST_STEPS, value=steps)
    field.setMinimumWidth(_FIELD_WIDTH)
    return field
