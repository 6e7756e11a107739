"""Choose the images that the page of an experiment shows, and read what is drawn of them."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from oce2stardist.config import Config
from oce2stardist.datasets.labelled import LabelledImages
from oce2stardist.files.records import read_yaml_if_there
from oce2stardist.images.label_files import read_labels
from oce2stardist.labels import Labels
from oce2stardist.pseudo_labels.choose import segmentation_settings
from oce2stardist.pseudo_labels.foreground import smooth_log_spread
from oce2stardist.pseudo_labels.inputs import read_predicted
from oce2stardist.pseudo_labels.segment import cluster_cells
from oce2stardist.reports.drawing.picture_figures import ScoredImage, strip_figure
from oce2stardist.reports.drawing.series import ALL, name_series
from oce2stardist.reports.experiment_files import find_predicted_run

_PERCENTILES = (0, 25, 50, 75, 100)
_KEYS = ("data_set", "method", "fraction", "alpha", "scale")


@dataclass(frozen=True)
class ShownRun:
    """A run whose images are shown: its folder, relative to that of the experiment.

    `name` says what it was made by, in words; `scores` are rows of results.csv, one per image,
    from the lowest F1 to the highest.
    """

    data_set: str
    name: str
    run: str
    scores: pd.DataFrame

    def labels_file(self, folder: Path, stem: str) -> Path:
        """Where the run, in the folder of its experiment, kept the labels of an image."""
        return folder / self.run / "labels" / f"{stem}.tif"


def best_run(
    summary: pd.DataFrame, results: pd.DataFrame, data_set: str, *, method: str | None = None
) -> ShownRun | None:
    """Choose the run with the best mean F1 on a data set, the first of its repeats.

    The oracle is left out, as are all methods but one where it is given. None where no run
    has scores of images.
    """
    rows = summary[(summary["data_set"] == data_set) & (summary["group"] == ALL)]
    rows = rows[~rows["oracle"] & rows["f1_mean"].notna()]
    if method is not None:
        rows = rows[rows["method"] == method]
    for row in rows.sort_values("f1_mean", ascending=False, kind="stable").to_dict("records"):
        own = results[_like(results, row) & (results["image"] != ALL) & results["f1"].notna()]
        if len(own):
            run = own.sort_values("seed", kind="stable")["run"].iloc[0]
            scores = own[own["run"] == run].sort_values(["f1", "image"])
            return ShownRun(data_set, name_series(row), run, scores)
    return None


def percentile_rows(
    folder: Path, shown: ShownRun, images: LabelledImages, *, also: Sequence[str]
) -> list[ScoredImage]:
    """Read the test images at the percentiles of F1; fewer where there are fewer images.

    `also` names runs, relative to `folder`, that may have kept embeddings.
    """
    stems = _readable(folder, shown, images)
    titles = {
        stems[place]: f"{percentile}th percentile: "
        for percentile, place in _places(len(stems), _PERCENTILES).items()
    }
    return _read_rows(folder, shown, images, titles, [shown.run, *also])


def middle_row(folder: Path, shown: ShownRun, images: LabelledImages) -> list[ScoredImage]:
    """Read the image of median F1; none where no image can be read."""
    titles = dict.fromkeys(_middle_stem(folder, shown, images), f"{shown.data_set}: ")
    return _read_rows(folder, shown, images, titles, [])


def pipeline_strip(folder: Path, shown: ShownRun, images: LabelledImages) -> Figure | None:
    """Draw how pseudo labels came about in the image of median F1; None without embeddings."""
    for stem in _middle_stem(folder, shown, images):
        run = find_predicted_run(folder, [shown.run], stem)
        if run is not None:
            (row,) = _read_rows(folder, shown, images, {stem: ""}, [])
            offsets, spread = read_predicted(run, stem)
            steps = _repeat_clustering(run, offsets, spread)
            return strip_figure(row.image, offsets, spread, row.labels, steps)
    return None


def _middle_stem(folder: Path, shown: ShownRun, images: LabelledImages) -> list[str]:
    """Name the image of median F1 among those that can be read; nothing where there is none."""
    stems = _readable(folder, shown, images)
    return [stems[place] for place in _places(len(stems), (50,)).values()]


def _like(results: pd.DataFrame, row: Mapping[Hashable, Any]) -> "pd.Series[bool]":
    """Tell which results a row of the summary is the mean of."""
    same = results["oracle"] == row["oracle"]
    for key in _KEYS:
        value = row[key]
        same &= results[key].isna() if pd.isna(value) else results[key] == value
    return same


def _readable(folder: Path, shown: ShownRun, images: LabelledImages) -> list[str]:
    """Name the scored images that are given and whose labels were kept, by their F1."""
    given = set(images.stems)
    scored = shown.scores["image"]
    return [stem for stem in scored if stem in given and shown.labels_file(folder, stem).exists()]


def _places(count: int, percentiles: Sequence[int]) -> dict[int, int]:
    """Find the place of each percentile among so many; a place is taken once."""
    places: dict[int, int] = {}
    for percentile in percentiles if count else ():
        place = round(percentile / 100 * (count - 1))
        if place not in places.values():
            places[percentile] = place
    return places


def _read_rows(
    folder: Path,
    shown: ShownRun,
    images: LabelledImages,
    titles: Mapping[str, str],
    runs: Sequence[str],
) -> list[ScoredImage]:
    """Read images in one go through their file; returns them in the order of the titles."""
    positions = sorted(images.stems.index(stem) for stem in titles)
    scores = shown.scores.set_index("image")
    rows = {}
    for image in images.choose(positions):
        stem = image.stem
        run = find_predicted_run(folder, runs, stem)
        rows[stem] = ScoredImage(
            title=f"{titles[stem]}{stem}",
            image=image.image,
            labels=read_labels(shown.labels_file(folder, stem)),
            truth=image.labels,
            f1=float(scores.at[stem, "f1"]),
            seg=float(scores.at[stem, "seg"]),
            offsets=None if run is None else read_predicted(run, stem)[0],
        )
    return [rows[stem] for stem in titles]


def _repeat_clustering(
    run: Path, offsets: NDArray[np.float32], spread: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], Labels] | None:
    """Find foreground and clusters as the run did, which keeps neither.

    None where every image had a threshold of its own: it is not kept.
    """
    chosen = read_yaml_if_there(run / "pseudo" / "parameters.yaml")
    settings = Config(**read_yaml_if_there(run / "run.yaml").get("config", {})).pseudo
    threshold = chosen.get("threshold", {}).get("value")
    if not isinstance(threshold, float | int):
        return None
    if settings.spread == "log":
        level = smooth_log_spread(spread, smoothing=settings.smoothing)
    else:
        level = gaussian_filter(spread, settings.smoothing) if settings.smoothing else spread
    foreground = np.asarray(level < threshold)
    segmentation = segmentation_settings(settings, ndim=2)
    bandwidth = chosen.get("bandwidth", {}).get("value", segmentation.bandwidth)
    segmentation = replace(segmentation, bandwidth=bandwidth)
    return foreground, cluster_cells(offsets, foreground, segmentation, seed=0)
