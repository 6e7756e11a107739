"""From a folder of microscopy images and a few annotated cells to a StarDist model.

Every command of the `oce2stardist` program is a function here; importing the package
loads neither torch nor TensorFlow.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oce2stardist.errors import InputError

# In the folder of the source code, `python -m` finds this folder before the installed package. The
# commands lie beside it there.
_SOURCE = Path(__file__).resolve().parents[1]
if (_SOURCE / "cli" / "main.py").exists():
    __path__.append(str(_SOURCE))

if TYPE_CHECKING:
    from oce2stardist.config import Config
    from oce2stardist.experiments.compare import compare_results
    from oce2stardist.experiments.experiment import run_experiment
    from oce2stardist.export.model import export_model
    from oce2stardist.images.image_set import ImageSet, read_images
    from oce2stardist.runners.demo import run_demo
    from oce2stardist.runners.evaluate import evaluate_folders
    from oce2stardist.runners.finetune import finetune_stardist
    from oce2stardist.runners.merge import merge_run
    from oce2stardist.runners.predict import predict_images
    from oce2stardist.runners.pseudo import make_pseudo_labels
    from oce2stardist.suggestion.run import suggest_regions
    from oce2stardist.training_labels.draw_cells import CellDraw
    from oce2stardist.training_labels.merge import merge_annotations

__all__ = [
    "CellDraw",
    "Config",
    "ImageSet",
    "InputError",
    "compare_results",
    "evaluate_folders",
    "export_model",
    "finetune_stardist",
    "make_pseudo_labels",
    "merge_annotations",
    "merge_run",
    "predict_images",
    "read_images",
    "run_demo",
    "run_experiment",
    "suggest_regions",
]

_HOMES = {
    "CellDraw": "training_labels.draw_cells",
    "Config": "config",
    "ImageSet": "images.image_set",
    "compare_results": "experiments.compare",
    "evaluate_folders": "runners.evaluate",
    "export_model": "export.model",
    "finetune_stardist": "runners.finetune",
    "make_pseudo_labels": "runners.pseudo",
    "merge_annotations": "training_labels.merge",
    "merge_run": "runners.merge",
    "predict_images": "runners.predict",
    "read_images": "images.image_set",
    "run_demo": "runners.demo",
    "run_experiment": "experiments.experiment",
    "suggest_regions": "suggestion.run",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `--help` answers at once.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
