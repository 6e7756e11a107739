"""From predicted embeddings on disk to label files: settings are chosen, objects judged."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.ndimage import gaussian_filter
from skimage.measure import regionprops_table

from oce2stardist.config import Config
from oce2stardist.io import write_bytes, write_labels, write_overlay, write_text
from oce2stardist.labels import resize_labels
from oce2stardist.pseudo_gt import (
    Foreground,
    Recipe,
    agreement,
    choose_foreground,
    foreground_threshold,
    segment,
    smooth_log_spread,
)
from oce2stardist.pseudo_gt.trust import Trust, judge_trust
from oce2stardist.report.diameter_picture import diameter_picture
from oce2stardist.runners.inputs import Image, Labels
from oce2stardist.runners.prepare import Prepared
from oce2stardist.runners.progress import Reporter
from oce2stardist.runners.recipe import (
    Choice,
    Scene,
    choose_by_annotations,
    choose_by_stability,
    recipe_of,
    score_annotated,
)

_LARGEST_SET_LOOKED_AT = 8
"""Images that settings are chosen on without annotations."""


def predicted_file(folder: Path, stem: str) -> Path:
    """Where a run keeps the prediction of one image."""
    return folder / "oce" / "predicted" / f"{stem}.safetensors"


def read_predicted(folder: Path, stem: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read the offsets (2, Y, X) and the spread (Y, X) of one image, at working scale."""
    arrays = load_file(predicted_file(folder, stem))
    return arrays["offsets"].astype(np.float32), arrays["spread"].astype(np.float32)


def number_of_copies(given: int | None, working: dict[str, Image]) -> int:
    """Take the number of noisy copies given, else what the size of the set allows."""
    if given is not None:
        return given
    from oce2stardist.embeddings.noise import choose_copies

    return choose_copies(sum(image.shape[0] * image.shape[1] for image in working.values()) / 1e6)


@dataclass(frozen=True)
class PseudoLabels:
    """Labels by image stem, what they were made with, and whether to trust them."""

    labels: dict[str, Labels]
    parameters: dict[str, dict[str, Any]]
    trust: Trust


def label_images(
    prepared: Prepared,
    config: Config,
    folder: Path,
    annotations: dict[str, Labels],
    overlay: bool,
    reporter: Reporter,
) -> PseudoLabels:
    """Turn predicted offsets into label files and objects.csv."""
    settings = config.pseudo
    scenes = Scenes(prepared, folder, config)
    if settings.choose:
        reporter.say("Choosing settings.")
    recipe, choices = _choose_recipe(config, scenes, annotations)
    labels: dict[str, Labels] = {}
    objects = []
    with reporter.task("Finding objects", len(prepared.seen)) as advance:
        for done, stem in enumerate(prepared.seen, start=1):
            shape = prepared.found.images[stem].shape[:2]
            labels[stem], confidence = _segment_surely(
                scenes[stem], recipe, settings.variants, shape, seed=config.seed
            )
            write_labels(folder / "pseudo" / "labels" / f"{stem}.tif", labels[stem])
            if overlay:
                write_overlay(
                    folder / "pseudo" / "overlays" / f"{stem}.png",
                    prepared.found.images[stem],
                    labels[stem],
                )
            objects.append(describe_objects(stem, labels[stem], confidence))
            advance(done, f"{labels[stem].max()} objects in {stem}")
    table = pd.concat(objects, ignore_index=True)
    write_text(folder / "pseudo" / "objects.csv", table.to_csv(index=False))
    if table.empty:
        reporter.say("No object was found in any image: check --diameter and the report.")
    sparse = scenes.foreground.cue == "outliers"
    trust = judge_trust(
        separation=None if sparse else scenes.foreground.separation,
        confidences=table["confidence"].to_numpy(),
        diameters=table["diameter"].to_numpy(),
        annotated_f1=score_annotated(labels, annotations),
    )
    parameters = _parameters(prepared, config, scenes.foreground, recipe, choices)
    parameters["trust"] = {
        "value": trust.trusted,
        "reason": trust.verdict,
        "measures": {name: round(value, 4) for name, value in trust.measures.items()},
    }
    return PseudoLabels(labels, parameters, trust)


class Scenes(Mapping[str, Scene]):
    """What `segment` needs of every image of a run, read from the run folder when asked for.

    Attributes
    ----------
    foreground : Foreground
        Chosen for the whole set.
    """

    def __init__(self, prepared: Prepared, folder: Path, config: Config) -> None:
        self._prepared, self._folder = prepared, folder
        self._maps = {
            stem: _spread_map(read_predicted(folder, stem)[1], config) for stem in prepared.seen
        }
        self.foreground = _choose_foreground(self._maps, folder, config)
        self._thresholds = dict(zip(self._maps, self.foreground.thresholds, strict=True))

    def __getitem__(self, stem: str) -> Scene:
        """Read the scene of one image."""
        offsets, _ = read_predicted(self._folder, stem)
        foreground = self._maps[stem] < self._thresholds[stem]
        return Scene(offsets, foreground, self._prepared.linear[stem])

    def __iter__(self) -> Iterator[str]:
        """Go through the stems."""
        return iter(self._maps)

    def __len__(self) -> int:
        """Count the images."""
        return len(self._maps)


def _spread_map(spread: NDArray[np.float32], config: Config) -> NDArray[np.float32]:
    settings = config.pseudo
    if settings.spread == "log":
        return smooth_log_spread(spread, smoothing=settings.smoothing)
    return gaussian_filter(spread, settings.smoothing) if settings.smoothing else spread


def _choose_foreground(
    maps: dict[str, NDArray[np.float32]], folder: Path, config: Config
) -> Foreground:
    settings = config.pseudo
    chosen = choose_foreground(
        list(maps.values()),
        (read_predicted(folder, stem)[0] for stem in maps),
        diameter=settings.working_diameter,
    )
    if settings.threshold == "auto":
        return chosen
    if settings.threshold == "pooled":
        thresholds = (foreground_threshold(list(maps.values())),) * len(maps)
        reason = "Otsu on the spread of all images together, set in the config"
    else:
        thresholds = tuple(foreground_threshold([one]) for one in maps.values())
        reason = "Otsu on the spread of each image, set in the config"
    return replace(chosen, thresholds=thresholds, cue="spread", reason=reason)


def _choose_recipe(
    config: Config, scenes: "Scenes", annotations: dict[str, Labels]
) -> tuple[Recipe, list[Choice]]:
    """Take the config's recipe, and choose what it leaves at its default."""
    settings = config.pseudo
    recipe = recipe_of(settings)
    if not settings.choose:
        return recipe, []
    free = [
        name
        for name, default in type(settings)().model_dump().items()
        if getattr(settings, name) == default
    ]
    with_cells = {stem: one for stem, one in annotations.items() if (one > 0).any()}
    if with_cells:
        some = {stem: scenes[stem] for stem in with_cells}
        return choose_by_annotations(recipe, some, with_cells, free=free, seed=config.seed)
    every = max(1, len(scenes) // _LARGEST_SET_LOOKED_AT)
    some = {stem: scenes[stem] for stem in list(scenes)[::every][:_LARGEST_SET_LOOKED_AT]}
    return choose_by_stability(recipe, some, free=free, seed=config.seed)


def _segment_surely(
    scene: Scene, recipe: Recipe, variants: int, shape: tuple[int, ...], *, seed: int
) -> tuple[Labels, NDArray[np.float64]]:
    """Segment one image at the original scale; also the confidence of every object."""
    labels, *others = (
        segment(
            scene.offsets,
            scene.foreground,
            scene.image,
            replace(recipe, bandwidth=recipe.bandwidth * factor),
            seed=seed,
        )
        for factor in [1.0, *_bandwidth_factors(variants)]
    )
    confidence = agreement(labels, others)
    resized = resize_labels(labels, shape)
    kept = np.unique(resized[resized > 0])  # tiny objects may vanish where images shrink
    table = np.zeros(len(confidence) + 1, np.int32)
    table[kept] = np.arange(1, len(kept) + 1)
    return table[resized], confidence[kept - 1]


def _bandwidth_factors(variants: int) -> list[float]:
    """Spread factors evenly between 0.75 and 1.33, but for 1; in equal ratios."""
    below, above = (variants + 1) // 2, variants // 2
    return [0.75 ** (i / below) for i in range(below, 0, -1)] + [
        (4 / 3) ** (i / above) for i in range(1, above + 1)
    ]


def _parameters(
    prepared: Prepared,
    config: Config,
    foreground: Foreground,
    recipe: Recipe,
    choices: list[Choice],
) -> dict[str, dict[str, Any]]:
    """List what was used, and why, for parameters.yaml."""
    given, scales = config.pseudo, prepared.scales
    area = recipe.cell_area
    copies = number_of_copies(config.embedding.copies, prepared.seen)
    rows: dict[str, tuple[Any, str]] = {
        "trained_on": (len(prepared.found.paths), "images given"),
        "channels": (next(iter(prepared.seen.values())).shape[-1], prepared.channels),
        "intensity": (given.intensity, _said(given, "intensity", "dim cells count, too")),
        "diameter": (round(scales.diameter, 2), scales.reason),
        "scale": (round(scales.median, 4), "brings the diameter to the working diameter"),
        "copies": (
            copies,
            "set in the config" if config.embedding.copies else "by size of the set",
        ),
        "threshold": (_thresholds(foreground), foreground.reason),
        "bandwidth": (recipe.bandwidth, "set in the config" if given.bandwidth else "the default"),
        "halo": (recipe.halo, _said(given, "halo", "the default")),
        "level": (recipe.level, _said(given, "level", "the default")),
        "min_unity": (recipe.min_unity, _said(given, "min_unity", "the default")),
        "min_cluster": (
            round(recipe.min_cluster * area, 1),
            f"{recipe.min_cluster:g} of the area of a median cell; even a speck has a halo",
        ),
        "max_ratio": (
            recipe.max_ratio,
            "objects whose pixels do not come together are background",
        ),
        "min_size": (
            round(recipe.min_size * area, 1),
            f"{recipe.min_size:g} of the area of a median cell",
        ),
    }
    for choice in choices:
        value = choice.value * area if choice.setting == "min_size" else choice.value
        rows[choice.setting] = (round(float(value), 4), choice.reason)
    if scales.low is not None and scales.high is not None:
        interval = {"interval": [round(scales.low, 2), round(scales.high, 2)]}
    else:
        interval = {}
    parameters = {name: {"value": value, "reason": why} for name, (value, why) in rows.items()}
    parameters["diameter"] |= interval
    if len(set(scales.factors.values())) > 1:
        parameters["scale"]["images"] = {
            stem: round(factor, 4) for stem, factor in scales.factors.items()
        }
    return parameters


def _said(settings: Any, name: str, otherwise: str) -> str:
    default = type(settings)().model_dump()[name]
    return otherwise if getattr(settings, name) == default else "set in the config"


def _thresholds(foreground: Foreground) -> float | str:
    distinct = set(foreground.thresholds)
    return round(float(distinct.pop()), 4) if len(distinct) == 1 else "one for each image"


def write_parameters(folder: Path, result: PseudoLabels, prepared: Prepared) -> None:
    text = yaml.safe_dump(result.parameters, sort_keys=False, allow_unicode=True)
    write_text(folder / "pseudo" / "parameters.yaml", text)
    estimate = prepared.scales.estimate
    if estimate is not None and estimate.diameter is not None:
        names, images = zip(*prepared.found.images.items(), strict=True)
        picture = diameter_picture(images, estimate, names=names)
        write_bytes(folder / "pseudo" / "diameter.png", picture)


def describe_objects(
    stem: str, labels: Labels, confidence: NDArray[np.float64] | None = None
) -> pd.DataFrame:
    """List image, label, area, equivalent diameter, centroid (pixels), confidence of objects."""
    table = pd.DataFrame(
        regionprops_table(labels, properties=("label", "area", "centroid"))
    ).rename(columns={"centroid-0": "y", "centroid-1": "x"})
    table.insert(0, "image", stem)
    table.insert(3, "diameter", np.sqrt(4 * table["area"] / np.pi))
    table["confidence"] = 1.0 if confidence is None else confidence[table["label"] - 1]
    return table.round(2)
