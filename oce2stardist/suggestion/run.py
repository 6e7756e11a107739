"""List the regions whose annotation should help most, for a model or a run of pseudo labels."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oce2stardist.errors import InputError, plural
from oce2stardist.files.atomic import write_bytes, write_text
from oce2stardist.images.normalise import normalise_percentiles
from oce2stardist.labels import UNLABELLED
from oce2stardist.runs.interruption import Interrupted, stop_on_signal
from oce2stardist.runs.progress import Reporter, SilentReporter
from oce2stardist.suggestion.evidence import ImageEvidence, SuggestionRun
from oce2stardist.suggestion.open_objects import compare_objects
from oce2stardist.suggestion.picture import SuggestionPanel, suggestion_picture
from oce2stardist.suggestion.windows import (
    choose_typical_windows,
    choose_windows,
    explain,
    propose_windows,
    window_side,
)

COLUMNS = (
    *("rank", "image", "y0", "x0", "y1", "x1", "score", "reason"),
    *("n_model", "n_pseudo", "n_disagree", "mean_confidence"),
)
"""Of suggestions.csv."""

_MARGIN = 0.15
"""Share of a window's side that the picture shows around it."""


def suggest_regions(
    run: str | Path,
    output: str | Path | None = None,
    *,
    images: str | Path | None = None,
    count: int = 10,
    window: int | None = None,
    axes: str | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> pd.DataFrame:
    """List the image regions whose annotation should help most.

    Parameters
    ----------
    run : path
        A model folder that `finetune_stardist` wrote, or, to choose the first cells to
        annotate, a run folder that `make_pseudo_labels` wrote.
    output : path, optional
        Folder for suggestions.csv, suggestions.png and ``geojson/<stem>.geojson``; default:
        ``suggestions`` in the run. Earlier suggestions there are replaced.
    images : path or glob, optional
        Default: the images that the run was made from.
    count : int, >= 1
        At most this many regions.
    window : int, >= 8, optional
        Side of the square regions, pixels; default: five median diameters.
    axes : str, optional
        Axes of the files, such as ``CYX``, where their metadata do not say.
    device : {"auto", "cpu", "cuda", "mps"}

    Returns
    -------
    DataFrame
        What suggestions.csv holds: ``rank`` from 1; ``image``; ``y0``, ``x0``, ``y1``, ``x1`` in
        pixels, the last two exclusive; ``score``, the weight that `compare_objects` gives, for
        each object outlined; ``reason`` in words; the numbers of objects not annotated yet,
        and the mean object probability of those the model found or nearly found (without a
        model: the mean confidence of pseudo objects). Empty if nothing is left to settle.

    Notes
    -----
    Without a model every other region is one of low confidence and every other a typical
    one: what the pseudo labels get wrong everywhere has no low confidence anywhere.
    """
    if count < 1:
        raise InputError(f"count must be at least 1. Got {count}; 10 is usual.")
    reporter = reporter or SilentReporter()
    folder = Path(output) if output is not None else Path(run) / "suggestions"
    _refuse_foreign(folder)
    source = SuggestionRun(run, images=images, axes=axes, device=device)
    objects, shapes = _compare_all(source, reporter)
    side = window or window_side(list(objects.values()))
    candidates = [
        propose_windows(
            objects[stem], shape, window=side, known=source.annotations(stem, shape) > UNLABELLED
        ).assign(image=stem)
        for stem, shape in shapes.items()
    ]
    chosen = _choose(
        pd.concat(candidates, ignore_index=True),
        count=count,
        n_images=len(shapes),
        has_model=source.has_model,
    ).reset_index(drop=True)
    chosen["rank"] = np.arange(1, len(chosen) + 1)
    chosen["reason"] = [explain(row) for row in chosen.to_dict("records")]
    table = chosen[list(COLUMNS)].round({"score": 4, "mean_confidence": 4})
    _write(folder, table, source)
    return table


def _refuse_foreign(folder: Path) -> None:
    """Leave alone outlines that are no earlier suggestions: they may be annotations."""
    outlines = sorted((folder / "geojson").glob("*.geojson"))
    if outlines and not (folder / "suggestions.csv").exists():
        raise InputError(
            "suggestions must replace earlier suggestions only. Got "
            f"{outlines[0]} without a suggestions.csv; choose another output."
        )


def _compare_all(
    source: SuggestionRun, reporter: Reporter
) -> tuple[dict[str, pd.DataFrame], dict[str, tuple[int, int]]]:
    """List the objects of every image with their weights, and the images' shapes."""
    objects, shapes, n_images = {}, {}, len(source.paths)
    with stop_on_signal() as should_stop, reporter.task("Looking at images", n_images) as advance:
        for done, stem in enumerate(source.paths, start=1):
            if should_stop():
                raise Interrupted(f"Stopped after {done - 1} of {plural(n_images, 'image')}.")
            view = source.view(stem)
            shapes[stem] = (view.image.shape[0], view.image.shape[1])
            # Without a model to compare with, an image without pseudo labels tells nothing.
            if view.model is not None or view.pseudo is not None:
                objects[stem] = compare_objects(
                    view.model,
                    view.probabilities,
                    view.pseudo,
                    view.confidence,
                    known=view.known,
                    prob_thresh=source.prob_thresh,
                )
            advance(done, stem)
    if not objects:
        raise InputError(
            f"{source.folder} must hold pseudo labels of the images. Got none of the same name, "
            f"such as {next(iter(source.paths))}.tif; pass the images that it was made from."
        )
    return objects, {stem: shapes[stem] for stem in objects}


def _choose(
    candidates: pd.DataFrame, *, count: int, n_images: int, has_model: bool
) -> pd.DataFrame:
    """Choose the windows; without a model, doubtful and typical ones in turn."""
    if has_model:
        return choose_windows(candidates, count=count, n_images=n_images)
    unsure = choose_windows(candidates, count=math.ceil(count / 2), n_images=n_images)
    rest = count - len(unsure)
    if rest == 0:
        return unsure
    # Half annotated already is as good as annotated, whatever it is typical of.
    open_ones = candidates[candidates["is_open"]]
    typical = choose_typical_windows(open_ones, count=rest, n_images=n_images, taken=unsure)
    turns = np.concatenate([2 * np.arange(len(unsure)), 2 * np.arange(len(typical)) + 1])
    return pd.concat([unsure, typical]).iloc[np.argsort(turns, kind="stable")]


def _write(folder: Path, table: pd.DataFrame, source: SuggestionRun) -> None:
    """Write the table, the outlines for QuPath, and the picture."""
    write_text(folder / "suggestions.csv", table.to_csv(index=False))
    for old in (folder / "geojson").glob("*.geojson"):
        old.unlink()
    for stem, rows in table.groupby("image"):
        text = json.dumps(to_geojson(rows), indent=1, ensure_ascii=False)
        write_text(folder / "geojson" / f"{stem}.geojson", text + "\n")
    picture = folder / "suggestions.png"
    picture.unlink(missing_ok=True)
    if len(table):
        write_bytes(picture, suggestion_picture(_panels(table, source)))


def to_geojson(windows: pd.DataFrame) -> dict[str, Any]:
    """Make the rectangles of one image a GeoJSON FeatureCollection that QuPath imports.

    Coordinates are (x, y) in pixels, from the outer corner of the first pixel. Each is an
    annotation of class "Suggestion*" (QuPath and our own reader ignore classes that end in *),
    named after its rank, described by its reason.
    """
    features = []
    for row in windows.to_dict("records"):
        y0, x0, y1, x1 = (int(row[name]) for name in ("y0", "x0", "y1", "x1"))
        corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
        geometry = {"type": "Polygon", "coordinates": [corners]}
        properties = {
            "objectType": "annotation",
            "name": f"Suggestion {row['rank']}",
            "classification": {"name": "Suggestion*", "color": [230, 159, 0]},
            "metadata": {"reason": str(row["reason"])},
        }
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def _panels(table: pd.DataFrame, source: SuggestionRun) -> list[SuggestionPanel]:
    """Cut the windows out of their images, which are looked at once more."""
    panels: dict[int, SuggestionPanel] = {}
    for stem, rows in table.groupby("image"):
        view = source.view(str(stem))
        for row in rows.to_dict("records"):
            panels[int(row["rank"])] = _panel(row, view, source.prob_thresh)
    return [panels[rank] for rank in sorted(panels)]


def _panel(row: Mapping[Any, Any], view: ImageEvidence, prob_thresh: float) -> SuggestionPanel:
    margin = round(_MARGIN * (row["y1"] - row["y0"]))
    top, left = max(0, row["y0"] - margin), max(0, row["x0"] - margin)
    crop = np.s_[top : row["y1"] + margin, left : row["x1"] + margin]
    model, nearly = None, None
    if view.model is not None and view.probabilities is not None:
        is_found = np.append(False, view.probabilities >= prob_thresh)[view.model]
        model = np.where(is_found, view.model, 0)[crop]
        nearly = np.where(is_found, 0, view.model)[crop]
    return SuggestionPanel(
        title=f"{row['rank']}: {row['image']}",
        reason=str(row["reason"]),
        image=normalise_percentiles(view.image)[crop],
        window=(row["y0"] - top, row["x0"] - left, row["y1"] - top, row["x1"] - left),
        model=model,
        nearly=nearly,
        pseudo=None if view.pseudo is None else view.pseudo[crop],
        annotations=view.annotations[crop],
    )
