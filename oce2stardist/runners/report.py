"""Run folders in, pages for people out: what a run saw, learned, found and took."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.transform import resize

from oce2stardist.config import Config, PseudoConfig
from oce2stardist.errors import InputError
from oce2stardist.io import read_labels, replacing, write_bytes
from oce2stardist.labels import BACKGROUND, UNLABELLED, object_sizes, resize_labels
from oce2stardist.pseudo_gt import Recipe, segment, smooth_log_spread
from oce2stardist.report.choices_picture import ChoicePanel, ChoiceRow, choices_picture
from oce2stardist.report.page import Cell, Notice, Panel, Section, write_page
from oce2stardist.report.pictures import (
    LARGEST_SIDE,
    RGB,
    UNSURE,
    colour_bar,
    colour_wheel,
    confidence_bar,
    confidence_plot,
    loss_plot,
    picture_of_confidence,
    picture_of_errors,
    picture_of_image,
    picture_of_labels,
    picture_of_offsets,
    picture_of_spread,
    picture_of_training_labels,
    spread_limits,
    strip,
)
from oce2stardist.runners.inputs import Image, ImageSet, Labels
from oce2stardist.runners.prepare import Prepared
from oce2stardist.runners.pseudo_labels import Scenes, read_predicted
from oce2stardist.runners.recipe import BANDWIDTHS, Scene, recipe_of

_AT_MOST = 6
"""Images shown on a page."""

_AT_MOST_PSEUDO = 12
"""Images shown of a run of stage one: more would make the page too large to mail."""

_LARGEST_MAP = 400
"""Pixels a side of maps of many images: noise takes much space, and has no outline to keep."""

_WINDOW, _MARGIN = 5, 2
"""Sides of what the contact sheet shows, and of what is segmented around it, diameters."""

_ABOUT_EMBEDDINGS = (
    "The network has seen images only, no outlines. At every pixel it predicts an arrow, and it "
    "learned to let the arrows of one cell end at one point. Where that worked, every cell shows "
    "all colours of the square below around a dark middle, where arrows are short.\n\n"
    "To tell cells from background, each image is predicted several times with a little noise "
    "added. Inside cells the arrows hardly change; in the background they scatter."
)
_ABOUT_TRAINING_LABELS = (
    "The network learns only where something is known: from annotated cells and the background "
    "around them (sparse labels), and from pseudo labels corrected by the annotations (pseudo "
    "labels). Cells held back are never trained on; they judge the weights and thresholds."
)
_ABOUT_CONFIDENCE = (
    "Each image is segmented again with a smaller and a larger bandwidth. The confidence of an "
    "object is how much of it stays the same: 1 where nothing changes, near 0 where it breaks up, "
    "fuses with a neighbour or vanishes. It tells whether an object is stable, not whether it is "
    "a cell."
)
_ABOUT_CHOICES = (
    "The same few cells under other values, each time with everything else as chosen. The chosen "
    "value has a frame and the word “chosen”. Where values were compared, their score is shown; "
    "the table of settings below says what it measures. If another picture fits your cells "
    "better, set its value in a config file and run the same command again: only the clustering, "
    "which takes seconds, is done anew."
)
_UNITS = {
    "diameter": "px",
    "scale": "×",
    "bandwidth": "px",
    "shrink": "px",
    "min_cluster": "px²",
    "min_size": "px²",
}
_ABOUT_UNITS = (
    "Pixels (px) are those of the working scale, original pixels times scale; those of the "
    "diameter are original ones."
)
_VARIED = ("bandwidth", "level", "shrink")
"""Settings that a run may choose, by their names in `Recipe`; and min_size, in other units."""

_SCORE = "score\n(mean F1, 0 to 1)"


def write_pseudo_report(run: Path, images: ImageSet) -> Path:
    """Write the page of a finished run of `make_pseudo_labels`.

    Parameters
    ----------
    run : Path
        The run folder.
    images : ImageSet
        The images that it was run on.

    Returns
    -------
    Path
        ``run/report/index.html``.

    Raises
    ------
    InputError
        If the folder holds no finished run, or none of these images.
    """
    parameters = _read_yaml(run / "pseudo" / "parameters.yaml")
    trust = parameters.pop("trust", None)
    objects = pd.read_csv(run / "pseudo" / "objects.csv", dtype={"image": str})
    stems = [stem for stem in images.images if _pseudo_file(run, stem).exists()]
    counts = _per_image(objects["image"].value_counts(), _or_refuse(stems, run, images))
    shown = choose_by_count(counts)
    predicted = {stem: read_predicted(run, stem) for stem in shown}
    limits = spread_limits([spread for _, spread in predicted.values()])
    sections = [
        Section(
            "In numbers",
            "Diameters are those of discs of the same area, in pixels of the original images.",
            table=[
                ("", "value"),
                ("images", f"{len(stems):,}"),
                ("objects found", f"{len(objects):,}"),
                ("objects per image, median (range)", _range(counts)),
                ("images without any object", f"{(counts == 0).sum():,}"),
                ("diameter in px, median (middle half)", _middle_half(objects["diameter"])),
            ],
        ),
        *_confidence_section(objects),
        *_sheet(
            "How large a cell is",
            _sentence(parameters.get("diameter", {}).get("reason", "")),
            run / "pseudo" / "diameter.png",
            "Orange circles have the estimated diameter; they should fit most cells.",
        ),
        *_sheet(
            "What each choice looks like",
            _ABOUT_CHOICES,
            run / "pseudo" / "choices.png",
            "Outlines at working scale; their colours only tell neighbours apart.",
        ),
        Section(
            f"What was learned and found: {_how_many(shown, stems)}",
            _ABOUT_EMBEDDINGS + _how_counted(shown, stems),
            legends=_embedding_legends(limits) + _confidence_legends(objects),
        ),
    ]
    for stem in shown:
        labels = read_labels(_pseudo_file(run, stem))
        panels = [
            ("Image", picture_of_image(images.images[stem])),
            *_embedding_panels(*predicted[stem], labels, limits, at_most=_LARGEST_MAP),
            (
                f"Pseudo labels: {_count(labels)}",
                _picture_of_found(images.images[stem], labels, objects[objects["image"] == stem]),
            ),
        ]
        sections.append(Section(stem, panels=panels, level=3))
    sections += [
        _embedding_training(run),
        _chosen("Settings and why they were chosen", {"": parameters}),
        _taken(_read_yaml(run / "times.yaml")),
    ]
    return write_page(
        run / "report" / "index.html",
        title="Pseudo labels",
        lead=f"{len(objects):,} objects found in {_images(len(stems))}; no outline was drawn by "
        "hand. Look whether they are your cells before you train on them.",
        sections=sections,
        runs={"pseudo": _read_yaml(run / "run.yaml")},
        notice=_notice(trust) if trust else None,
    )


def write_choices(run: Path, prepared: Prepared, config: Config) -> Path | None:
    """Draw what other settings would have found, on a few cells of the fullest image.

    Parameters
    ----------
    run : Path
        The run folder, with everything but its report.
    prepared : Prepared
        The images that it was run on.
    config : Config

    Returns
    -------
    Path or None
        ``run/pseudo/choices.png``; None where no object was found, and nothing is written.

    Notes
    -----
    Only the window shown and two diameters around it are segmented, so what depends on the
    whole image, such as the weights of channels, may differ a little from the labels.
    """
    parameters = _read_yaml(run / "pseudo" / "parameters.yaml")
    objects = pd.read_csv(run / "pseudo" / "objects.csv", dtype={"image": str})
    if objects.empty:
        return None
    stem = str(objects.groupby("image").size().idxmax())
    recipe = _recipe_taken(config.pseudo, parameters)
    offsets, spread = read_predicted(run, stem)
    per_original = np.array(spread.shape) / prepared.found.images[stem].shape[:2]
    centres = objects.loc[objects["image"] == stem, ["y", "x"]].to_numpy() * per_original
    shown, outer = _crowded_window(centres, spread.shape, recipe.diameter)
    level = _smoothed(spread[outer], config.pseudo)
    threshold = parameters["threshold"]["value"]
    if isinstance(threshold, str):  # each image has its own, and the run does not record it
        foreground, threshold = Scenes(prepared, run, config)[stem].foreground[outer], None
    else:
        foreground = level < threshold
    scene = Scene(offsets[:, outer[0], outer[1]], foreground, prepared.linear[stem][outer])
    masks = _foreground_masks(level, foreground, threshold)
    rows = [
        ChoiceRow(title, scene.image[shown], [_cropped(panel, shown) for panel in panels])
        for title, panels in (
            ("Foreground: pixels whose arrows are steady under noise", masks),
            *_varied(scene, recipe, parameters, config.seed),
        )
    ]
    path = run / "pseudo" / "choices.png"
    write_bytes(path, choices_picture(rows))
    return path


def _recipe_taken(settings: PseudoConfig, parameters: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """Put together what a run segmented with, from its config and what it chose."""
    recipe = recipe_of(settings)
    taken = {name: parameters[name]["value"] for name in _VARIED if name in parameters}
    min_size = parameters["min_size"]["value"] / recipe.cell_area
    return replace(recipe, **taken, min_size=min_size)


def _crowded_window(
    centres: NDArray[np.float64], shape: tuple[int, ...], diameter: float
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Find a window in which objects are dense; returns it within the crop, and the crop.

    The crop reaches further than the window on all sides, as far as the image does.
    """
    side, margin = round(_WINDOW * diameter), round(_MARGIN * diameter)
    points = np.zeros(shape)
    at = np.clip(centres.astype(int), 0, np.array(shape) - 1)
    np.add.at(points, tuple(at.T), 1.0)
    crowd = ndi.gaussian_filter(points, side / 4, mode="constant")
    middle = np.unravel_index(crowd.argmax(), shape)
    shown, outer = [], []
    for centre, size in zip(middle, shape, strict=True):
        start = max(0, min(int(centre) - side // 2, size - side))
        stop = min(start + side, size)
        first = max(0, start - margin)
        outer.append(slice(first, min(size, stop + margin)))
        shown.append(slice(start - first, stop - first))
    return tuple(shown), tuple(outer)


def _smoothed(spread: NDArray[np.float32], settings: PseudoConfig) -> NDArray[np.float32]:
    """Turn the spread into what the threshold is for."""
    if settings.spread == "log":
        return smooth_log_spread(spread, smoothing=settings.smoothing)
    return ndi.gaussian_filter(spread, settings.smoothing) if settings.smoothing else spread


def _foreground_masks(
    level: NDArray[np.float32], foreground: NDArray[np.bool_], threshold: float | None
) -> list[ChoicePanel]:
    """Outline the foreground at the threshold, and below and above it by 0.2 of what occurs."""
    chosen = ChoicePanel("threshold of this image", ndi.label(foreground)[0], chosen=True)
    if threshold is None or not np.isfinite(threshold):
        return [chosen]
    step = 0.2 * float(np.ptp(np.percentile(level, (2, 98))))
    panels = [
        ChoicePanel(f"threshold {at:.2f}", ndi.label(level < at)[0])
        for at in (threshold - step, threshold + step)
    ]
    return [panels[0], replace(chosen, value=f"threshold {threshold:.2f}"), panels[1]]


def _varied(
    scene: Scene, recipe: Recipe, parameters: Mapping[str, Mapping[str, Any]], seed: int
) -> list[tuple[str, list[ChoicePanel]]]:
    """Segment the scene with one setting at a time changed."""

    def panel(name: str, tried: Recipe, setting: str) -> ChoicePanel:
        labels = segment(scene.offsets, scene.foreground, scene.image, tried, seed=seed)
        score = _score_of(parameters.get(setting, {}), getattr(tried, setting))
        return ChoicePanel(name, labels, chosen=tried == recipe, score=score)

    return [
        (
            "Bandwidth: how close arrows must end to make one object (px, and share of diameter)",
            [
                panel(f"{one:.4g} px ({one / recipe.diameter:.2f})", tried, "bandwidth")
                for one in _bandwidths(recipe)
                for tried in [replace(recipe, bandwidth=one)]
            ],
        ),
        (
            "Halo: how the rim of background around each object is taken off",
            [
                panel(name, tried, "level" if tried.halo == "contrast" else "shrink")
                for name, tried in _halos(recipe)
            ],
        ),
        (
            "Joining pieces: how much touching pieces must look like one cell (min_unity)",
            [
                panel("off (1)" if one == 1 else f"{one:g}", tried, "min_unity")
                for one in _unities(recipe)
                for tried in [replace(recipe, min_unity=one)]
            ],
        ),
    ]


def _bandwidths(recipe: Recipe) -> list[float]:
    """Take the one chosen and three others from small to large."""
    others = [round(share * recipe.diameter, 2) for share in BANDWIDTHS]
    others = [one for one in others if abs(one / recipe.bandwidth - 1) > 0.01]
    middle = others[len(others) // 2]
    return sorted({others[0], middle, others[-1], recipe.bandwidth})


def _halos(recipe: Recipe) -> list[tuple[str, Recipe]]:
    """Take three levels of contrast, one way to shrink, none, and the one chosen."""
    usual = PseudoConfig()
    levels = [0.25, usual.level, 0.65]
    if recipe.halo == "contrast":  # the chosen one in place of that most like it
        levels.remove(min(levels, key=lambda one: abs(one - recipe.level)))
        levels.append(recipe.level)
    shrink = recipe.shrink if recipe.halo == "shrink" else usual.shrink
    tried = [
        (f"contrast, level {one:g}", replace(recipe, halo="contrast", level=one))
        for one in sorted(levels)
    ]
    tried.append((f"shrink {shrink:g} px", replace(recipe, halo="shrink", shrink=shrink)))
    tried.append(("none", replace(recipe, halo="none")))
    if recipe.halo == "otsu":
        tried.append(("otsu", recipe))
    return tried


def _unities(recipe: Recipe) -> list[float]:
    other = PseudoConfig().min_unity if recipe.min_unity == 1 else 1.0
    return [other, recipe.min_unity]


def _score_of(parameter: Mapping[str, Any], value: float) -> float | None:
    """Find the score of a value in the words of `oce2stardist.runners.recipe.Choice`."""
    for name, score in re.findall(r"(\d[\d.]*): (\d\.\d+)", parameter.get("reason", "")):
        if abs(float(name) - value) < 0.006:
            return float(score)
    return None


def _cropped(panel: ChoicePanel, window: tuple[slice, ...]) -> ChoicePanel:
    return replace(panel, labels=panel.labels[window])


def _notice(trust: Mapping[str, Any]) -> Notice:
    """Say whether to trust the labels, with what was measured."""
    named = trust.get("measures", {})
    measures = ", ".join(f"{name} {value:.2f}" for name, value in named.items())
    measured = f" Measured, from 0 to 1, high is good: {measures}." if measures else ""
    if trust["value"]:
        return Notice(f"Nothing speaks against these labels.{measured}", is_warning=False)
    return Notice(_sentence(trust["reason"]) + measured, is_warning=True)


def _sentence(text: str) -> str:
    return _capital(text.rstrip(".")) + "." * bool(text)


def _sheet(heading: str, about: str, path: Path, caption: str) -> list[Section]:
    """Show a picture that the run has written, if it has."""
    return [Section(heading, about, panels=[(caption, path.read_bytes())])] if path.exists() else []


def _confidence_section(objects: pd.DataFrame) -> list[Section]:
    if "confidence" not in objects or objects.empty:
        return []
    unsure = f"{(objects['confidence'] < UNSURE).mean():.0%}"
    caption = f"Confidence of the {len(objects):,} objects; {unsure} are below {UNSURE:g}."
    plot = confidence_plot(objects["confidence"].to_numpy())
    return [Section("How sure it is", _ABOUT_CONFIDENCE, panels=[(caption, plot)])]


def _confidence_legends(objects: pd.DataFrame) -> list[tuple[str, RGB]]:
    if "confidence" not in objects:
        return []
    return [
        (
            "Pseudo labels: outlines from orange-red (confidence 0: changes altogether under "
            f"other settings) over yellow to blue (1: stays the same). Hatched: below {UNSURE:g}.",
            confidence_bar(),
        )
    ]


def _picture_of_found(image: Image, labels: Labels, objects: pd.DataFrame) -> RGB:
    if "confidence" not in objects:  # written by an older version
        return picture_of_labels(image, labels)
    confidence = np.ones(max(int(labels.max()), 0) + 1)
    confidence[objects["label"]] = objects["confidence"]
    return picture_of_confidence(image, labels, confidence)


def write_finetune_report(
    model: Path,
    images: ImageSet,
    predictions: Mapping[str, Labels],
    *,
    held_back: Mapping[str, Labels] | None = None,
) -> Path:
    """Write the page of a finished run of `finetune_stardist`.

    Parameters
    ----------
    model : Path
        The model folder.
    images : ImageSet
        The images that it was trained on.
    predictions : mapping of image stem to label image
        What the model finds; only images with a prediction are shown.
    held_back : mapping of image stem to label image, optional
        `TrainingLabels.held_back`: cells that judged the model, marked where given.

    Returns
    -------
    Path
        ``model/report/index.html``.

    Raises
    ------
    InputError
        If the folder holds no finished model, or there is no prediction for any image.
    """
    parameters = _read_yaml(model / "parameters.yaml")
    cells = _read_cells(model)
    stems = _or_refuse([stem for stem in images.images if stem in predictions], model, images)
    annotated = [stem for stem in stems if stem in set(cells["image"])]
    shown = choose_evenly(annotated)
    others = [stem for stem in stems if stem not in annotated]
    shown += choose_evenly(others, _AT_MOST - len(shown))
    roles = cells["role"].value_counts()
    objects = pd.read_csv(model / "training" / "objects.csv")
    n_pseudo = int((objects["source"] == "pseudo").sum()) if "pseudo" in _used(model) else 0
    sections = [
        Section(
            "In numbers",
            table=[
                ("", "cells"),
                ("annotated, trained on", int(roles.get("training", 0))),
                ("annotated, held back to judge", int(roles.get("held_back", 0))),
                ("from pseudo labels, trained on", n_pseudo),
            ],
        ),
        Section(
            f"What it learned from and finds: {_how_many(shown, list(images.images))}",
            _ABOUT_TRAINING_LABELS
            + ("\n\nImages with annotated cells come first." if annotated else "")
            + _how_chosen(shown, list(images.images)),
            legends=_training_legends(marked=bool(held_back)),
        ),
    ]
    for stem in shown:
        image = images.images[stem]
        panels = [
            ("Image", picture_of_image(image)),
            *_training_panels(model, stem, image, cells, (held_back or {}).get(stem)),
            (
                f"Prediction: {_count(predictions[stem])}",
                picture_of_labels(image, predictions[stem]),
            ),
        ]
        sections.append(Section(stem, panels=panels, level=3))
    sections += [
        Section("Training", panels=[_training_plot(model)]),
        _chosen("Settings and why they were chosen", {"": parameters}),
        _taken(_read_yaml(model / "times.yaml")),
    ]
    return write_page(
        model / "report" / "index.html",
        title="StarDist model",
        lead=f"Trained on {_plural(int(roles.get('training', 0)), 'annotated cell')}, judged by "
        f"{_plural(int(roles.get('held_back', 0)), 'other')}, in a set of "
        f"{_images(len(images.images))}.",
        sections=sections,
        runs={"finetune": _read_yaml(model / "run.yaml")},
    )


def write_demo_report(
    folder: Path,
    *,
    images: Mapping[str, Image],
    annotations: Labels,
    pseudo: Path,
    models: Mapping[str, Path],
    predictions: Mapping[str, Labels],
    truth: Labels,
    scores: Sequence[Mapping[str, Any]],
    seconds: Mapping[str, float],
) -> Path:
    """Write the page of the demo, and the strip of pictures that sums it up.

    Parameters
    ----------
    folder : Path
    images : mapping with the keys "train" and "test"
        Images of shape (Y, X, C); cells are annotated in "train" only.
    annotations : int32 array of shape (Y, X)
        The annotated cells of "train", with the ids of the models' training/cells.csv.
    pseudo : Path
        The run folder of stage one.
    models : mapping of name to model folder
        The last one is shown in the strip, and its training labels on the page.
    predictions : mapping of name to int32 array of shape (Y, X)
        Of "test"; those of every model, under its name, and any other.
    truth : int32 array of shape (Y, X)
        Of "test".
    scores : sequence of dict with name, f1, seg, n_true and n_predicted
    seconds : mapping of step to seconds

    Returns
    -------
    Path
        ``folder/report/index.html``, beside ``strip.png``.

    Raises
    ------
    InputError
        If a run folder is not finished.
    """
    name, model = list(models.items())[-1]
    cells = _read_cells(model)
    roles = cells["role"].value_counts()
    n_train, n_judge = int(roles.get("training", 0)), int(roles.get("held_back", 0))
    judges = cells.loc[cells["role"] == "held_back", "label"]
    held_back = np.where(np.isin(annotations, judges), annotations, BACKGROUND).astype(np.int32)
    offsets, spread = read_predicted(pseudo, "train")
    limits = spread_limits([spread])
    found = {stem: read_labels(_pseudo_file(pseudo, stem)) for stem in images}
    embedding = _embedding_panels(offsets, spread, found["train"], limits)
    training = _training_panels(model, "train", images["train"], cells, held_back)
    raw = {stem: picture_of_image(image) for stem, image in images.items()}
    n_images = _read_yaml(pseudo / "pseudo" / "parameters.yaml")["trained_on"]["value"]
    sections = [
        Section(
            "1. The nuclei",
            "One image, cut in two. A few cells are annotated in the upper part. The lower part "
            "has no annotation; every score on this page is measured there.",
            panels=[("Upper part, “train”", raw["train"]), ("Lower part, “test”", raw["test"])],
        ),
        Section(
            "2. What the embeddings learned",
            _ABOUT_EMBEDDINGS,
            panels=[("Image", raw["train"]), *embedding],
            legends=_embedding_legends(limits),
        ),
        Section(
            "3. Pseudo labels, which nobody drew",
            "Pixels whose arrows end at the same point become one object.",
            panels=[
                (
                    f"{part} part: {_count(found[stem])}",
                    picture_of_labels(images[stem], found[stem]),
                )
                for stem, part in (("train", "Upper"), ("test", "Lower"))
            ],
        ),
        Section(
            "4. The cells somebody did draw",
            f"{_plural(n_train + n_judge, 'annotated cell')}: {n_train} to train on, {n_judge} "
            f"held back.\n\n{_ABOUT_TRAINING_LABELS}",
            panels=training,
            legends=_training_legends(marked=True),
        ),
        Section(
            "5. What is found where nothing was annotated",
            f"An object counts as found if it shares at least half of the pixels that it and the "
            f"true one cover together (IoU 0.5). {_say_what_was_seen(models)}",
            panels=[
                (f"Truth: {_count(truth)}", picture_of_labels(images["test"], truth)),
                *(
                    (
                        f"{_capital(one)}: {_count(labels)}",
                        picture_of_errors(images["test"], labels, truth),
                    )
                    for one, labels in predictions.items()
                ),
            ],
            legends=_error_legends(),
        ),
        Section(
            "6. Scores",
            "F1 weighs missed and extra objects alike, at IoU 0.5; SEG is the mean overlap (IoU) "
            "of true cells with what was found for them, 0 for missed ones. Both run from 0 to 1, "
            "the best. With one small image, differences of a few hundredths say little.",
            table=[
                ("", "F1", "SEG", "cells in truth", "objects predicted"),
                *(
                    (
                        _capital(one["name"]),
                        one["f1"],
                        one["seg"],
                        one["n_true"],
                        one["n_predicted"],
                    )
                    for one in scores
                ),
            ],
        ),
        _embedding_training(pseudo, "7. Training: embeddings"),
        *(
            Section(f"Training: {one}", panels=[_training_plot(path)], level=3)
            for one, path in models.items()
        ),
        _chosen(
            "8. Settings and why they were chosen",
            {
                "pseudo labels": _read_yaml(pseudo / "pseudo" / "parameters.yaml"),
                **{one: _read_yaml(path / "parameters.yaml") for one, path in models.items()},
            },
        ),
        _taken(seconds, "9. Time taken"),
    ]
    path = write_page(
        folder / "report" / "index.html",
        title="From nuclei to a StarDist model",
        lead=f"Embeddings learned from {_images(n_images)} without any outline, "
        f"{_plural(n_train + n_judge, 'annotated cell')}, and what StarDist makes of both.",
        sections=sections,
        runs={
            "pseudo labels": _read_yaml(pseudo / "run.yaml"),
            **{one: _read_yaml(path / "run.yaml") for one, path in models.items()},
        },
    )
    arrows = _resize(dict(embedding)["Embeddings"], images["train"].shape)
    _write_strip(
        folder / "report" / "strip.png",
        images,
        arrows,
        found["train"],
        annotations,
        predictions[name],
        truth,
    )
    return path


def choose_evenly(names: Iterable[str], at_most: int = _AT_MOST) -> list[str]:
    """Choose names at even distances over their sorted list, the first and last included."""
    ordered = sorted(names)
    if len(ordered) <= at_most:
        return ordered
    return [ordered[i] for i in np.linspace(0, len(ordered) - 1, at_most).round().astype(int)]


def choose_by_count(counts: pd.Series, at_most: int = _AT_MOST_PSEUDO) -> list[str]:
    """Choose images at even quantiles of their number of objects, from fewest to most.

    `counts` holds the number of objects by image stem; the fewest and the most are included.
    """
    ordered = sorted(counts.index, key=lambda stem: (counts[stem], stem))
    at = np.linspace(0, len(ordered) - 1, min(at_most, len(ordered))).round().astype(int)
    return [ordered[i] for i in at]


def _write_strip(
    path: Path,
    images: Mapping[str, Image],
    arrows: RGB,
    pseudo: Labels,
    annotations: Labels,
    predicted: Labels,
    truth: Labels,
) -> None:
    """Write the row of pictures: squares of one size from both parts of the demo's image."""
    side = min(min(image.shape[:2]) for image in images.values())
    upper = _fullest_square((annotations > BACKGROUND) + 0.3 * (pseudo > BACKGROUND), side)
    lower = _fullest_square(truth > BACKGROUND, side)
    train, test = images["train"][upper], images["test"][lower]
    n_annotated = len(object_sizes(annotations)[0])
    panels = [
        ("1  Nuclei", picture_of_image(train)),
        ("2  Embeddings,\n    learned without labels", arrows[upper]),
        ("3  Pseudo labels,\n    drawn by nobody", picture_of_labels(train, pseudo[upper])),
        (
            f"4  Annotated cells\n    ({n_annotated} in all)",
            picture_of_training_labels(train, annotations[upper]),
        ),
        (
            "5  StarDist where nothing\n    was annotated",
            picture_of_labels(test, predicted[lower]),
        ),
        ("6  Truth there", picture_of_labels(test, truth[lower])),
    ]
    with replacing(path) as temporary:
        temporary.write_bytes(imagecodecs.png_encode(strip(panels, height=190), level=7))


def _fullest_square(weight: NDArray[Any], side: int) -> tuple[slice, slice]:
    """Find the square of greatest weight."""
    sums = np.pad(weight.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return slice(int(top), int(top) + side), slice(int(left), int(left) + side)


def _resize(picture: RGB, shape: Sequence[int]) -> RGB:
    """Bring a picture at working scale to the size of its image."""
    resized: RGB = resize(
        picture, shape[:2], order=0, preserve_range=True, anti_aliasing=False
    ).astype(np.uint8)
    return resized


def _embedding_panels(
    offsets: NDArray[np.float32],
    spread: NDArray[np.float32],
    labels: Labels,
    limits: tuple[float, float],
    *,
    at_most: int = LARGEST_SIDE,
) -> list[tuple[str, RGB]]:
    foreground = resize_labels(labels, spread.shape) > BACKGROUND
    return [
        ("Embeddings", picture_of_offsets(offsets, foreground, at_most=at_most)),
        ("Spread under noise", picture_of_spread(spread, limits, at_most=at_most)),
    ]


def _embedding_legends(limits: tuple[float, float]) -> list[tuple[str, RGB]]:
    low, high = limits
    return [
        (
            "Embeddings: colour is the direction of the arrow, brightness its length. "
            "Outside the pseudo labels they are dimmed.",
            colour_wheel(),
        ),
        (
            f"Spread: from {low:.2g} px (dark: cells) to {high:.2g} px (yellow: background), "
            "on a logarithmic scale.",
            colour_bar(),
        ),
    ]


def _embedding_training(run: Path, heading: str = "Training") -> Section:
    history = pd.read_csv(run / "oce" / "history.csv")
    return Section(
        heading,
        panels=[
            (
                "Loss of the embeddings: every step (thin) and their running mean (bold).",
                loss_plot(history, {"loss": "loss"}),
            )
        ],
    )


def _training_panels(
    model: Path, stem: str, image: Image, cells: pd.DataFrame, held_back: Labels | None
) -> list[tuple[str, RGB]]:
    """Draw the training labels of an image that were used."""
    panels = []
    roles = cells.loc[cells["image"] == stem, "role"]
    n_train, n_judge = int((roles == "training").sum()), int((roles == "held_back").sum())
    for kind in _used(model):
        path = model / "training" / kind / f"{stem}.tif"
        if not path.exists():
            continue
        labels = read_labels(path)
        if kind == "sparse":
            caption = f"Sparse training labels: {_plural(n_train, 'annotated cell')}"
            caption += f", {n_judge} held back" * (n_judge > 0)
            picture = picture_of_training_labels(image, labels, held_back)
        else:
            n_pseudo = len(object_sizes(labels)[0]) - n_train
            caption = f"Pseudo training labels: {_plural(n_train, 'annotated cell')}, "
            caption += _plural(n_pseudo, "pseudo label")
            picture = picture_of_training_labels(image, labels)
        panels.append((caption, picture))
    return panels


def _training_legends(*, marked: bool) -> list[tuple[str, RGB]]:
    image, disc = _swatch()
    unknown = np.full_like(disc, UNLABELLED)
    legends = [
        ("A cell, and known background", picture_of_training_labels(image, disc)),
        ("Unknown: nothing is learned here", picture_of_training_labels(image, unknown)),
    ]
    if marked:
        legends.append(
            ("A cell held back to judge", picture_of_training_labels(image, unknown, disc))
        )
    return legends


def _error_legends() -> list[tuple[str, RGB]]:
    image, disc = _swatch()
    none = np.zeros_like(disc)
    return [
        ("Found", picture_of_errors(image, disc, disc)),
        ("Missed", picture_of_errors(image, none, disc)),
        ("Not in the truth, or too far off to count", picture_of_errors(image, disc, none)),
    ]


def _swatch() -> tuple[Image, Labels]:
    """Draw a grey cell for a legend; the legends show it with the pages' own functions."""
    rows, columns = np.indices((40, 40))
    disc = ((rows - 19.5) ** 2 + (columns - 19.5) ** 2 < 14**2).astype(np.int32)
    return ndi.gaussian_filter(disc.astype(np.float32), 2)[..., None], disc


def _training_plot(model: Path) -> Panel:
    history = pd.read_csv(model / "history.csv")
    names = {"loss": "total", "loss_sparse": "sparse labels", "loss_pseudo": "pseudo labels"}
    # At alpha 0 and 1 one half is 0 throughout and the other equals the total.
    if not all(history[column].any() for column in names):
        names = {"loss": "total"}
    caption = "Loss of StarDist: every step (thin) and their running mean (bold)."
    if history["score"].notna().any():
        caption += " Below, the score on the held-back cells at each check."
    return caption, loss_plot(history, names, score_name=_SCORE)


def _chosen(heading: str, parameters: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Section:
    """List parameters by the stage that chose them; a single stage needs no name."""
    rows: list[tuple[Cell, ...]] = [
        ("" if row else stage, name, _setting(name, one), one["reason"])
        for stage, chosen in parameters.items()
        for row, (name, one) in enumerate(chosen.items())
    ]
    header: tuple[Cell, ...] = ("stage", "setting", "value", "why")
    skipped = 1 if len(parameters) == 1 else 0
    about = _ABOUT_UNITS if any("scale" in chosen for chosen in parameters.values()) else ""
    return Section(heading, about, table=[row[skipped:] for row in (header, *rows)])


def _taken(seconds: Mapping[str, float], heading: str = "Time taken") -> Section:
    rows = [(_capital(name.replace("_", " ")), _duration(taken)) for name, taken in seconds.items()]
    return Section(
        heading,
        table=[("step", "time"), *rows, ("Together", _duration(sum(seconds.values())))],
    )


def _say_what_was_seen(models: Mapping[str, Path]) -> str:
    """Say truthfully whether the test image took part in the training of StarDist."""
    seen = [
        name
        for name, path in models.items()
        if any((path / "training" / kind / "test.tif").exists() for kind in _used(path))
    ]
    if not seen:
        return "StarDist never saw this part in training."
    return (
        "Of this part, StarDist saw the image and its pseudo labels, but no annotation, in the "
        f"training of: {', '.join(seen)}."
    )


def _used(model: Path) -> list[str]:
    """Name the kinds of training labels that have weight; files of the other may lie there."""
    alpha = _read_yaml(model / "parameters.yaml")["alpha"]["value"]
    return ["sparse"] * (alpha < 1) + ["pseudo"] * (alpha > 0)


def _pseudo_file(run: Path, stem: str) -> Path:
    return run / "pseudo" / "labels" / f"{stem}.tif"


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise InputError(
            f"a report needs a finished run. Got no {path}; run the same command again to its end."
        )
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def _read_cells(model: Path) -> pd.DataFrame:
    _read_yaml(model / "parameters.yaml")  # refuses an unfinished run
    return pd.read_csv(model / "training" / "cells.csv", dtype={"image": str})


def _or_refuse(stems: list[str], folder: Path, images: ImageSet) -> list[str]:
    if not stems:
        raise InputError(
            f"the images must be those of the run. Got none of {folder}, such as "
            f"{next(iter(images.images))}; pass the images that it was run on."
        )
    return stems


def _per_image(counts: pd.Series, stems: list[str]) -> pd.Series:
    return counts.reindex(stems, fill_value=0)


def _range(values: pd.Series) -> str:
    return f"{values.median():g} ({values.min():g} to {values.max():g})"


def _middle_half(values: pd.Series) -> str:
    if values.empty:
        return "–"
    low, middle, high = values.quantile([0.25, 0.5, 0.75])
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def _how_many(shown: list[str], of: list[str]) -> str:
    return _images(len(of)) if len(shown) == len(of) else f"{len(shown)} of {_images(len(of))}"


def _how_chosen(shown: list[str], of: list[str]) -> str:
    return "" if len(shown) == len(of) else "\n\nImages are chosen evenly over the sorted names."


def _how_counted(shown: list[str], of: list[str]) -> str:
    order = "\n\nImages are in the order of their number of objects, from fewest to most"
    if len(shown) == len(of):
        return f"{order}."
    return f"{order}; those shown are at even distances in this order, the first and last included."


def _images(count: int) -> str:
    return _plural(count, "image")


def _count(labels: Labels) -> str:
    return _plural(len(object_sizes(labels)[0]), "object")


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _plain(value: Any, unit: str) -> str:
    """Write a setting as a person would: with its unit, and no more digits than matter."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g} {unit}".strip() if isinstance(value, float) else f"{value} {unit}".strip()


def _setting(name: str, one: Mapping[str, Any]) -> str:
    """Write a setting with its interval, or the range over the images, where it has one."""
    unit = _UNITS.get(name, "")
    plain = _plain(one["value"], unit)
    ends = one.get("interval") or list(one.get("images", {}).values())
    if not ends:
        return plain
    said = "images" if one.get("images") else "90 % interval"
    return f"{plain} ({said}: {_plain(min(ends), '')} to {_plain(max(ends), unit)})"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
