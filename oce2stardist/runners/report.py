"""Run folders in, pages for people out: what a run saw, learned, found and took."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.transform import resize

from oce2stardist.errors import InputError
from oce2stardist.io import read_labels, replacing
from oce2stardist.labels import BACKGROUND, UNLABELLED, object_sizes, resize_labels
from oce2stardist.report.page import Cell, Panel, Section, write_page
from oce2stardist.report.pictures import (
    RGB,
    colour_bar,
    colour_wheel,
    loss_plot,
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
from oce2stardist.runners.pseudo_labels import read_predicted

_AT_MOST = 6
"""Images shown on a page."""

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
_UNITS = {"scale": "×", "bandwidth": "px", "min_size": "px²"}
_ABOUT_UNITS = "Pixels (px) are those of the working scale: original pixels times scale."
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
    objects = pd.read_csv(run / "pseudo" / "objects.csv", dtype={"image": str})
    stems = [stem for stem in images.images if _pseudo_file(run, stem).exists()]
    shown = choose_evenly(_or_refuse(stems, run, images))
    counts = objects["image"].value_counts()
    empty = len(stems) - len(counts)
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
                ("objects per image, median (range)", _range(_per_image(counts, stems))),
                ("images without any object", f"{empty:,}"),
                ("diameter in px, median (middle half)", _middle_half(objects["diameter"])),
            ],
        ),
        Section(
            f"What was learned and found: {_how_many(shown, stems)}",
            _ABOUT_EMBEDDINGS + _how_chosen(shown, stems),
            legends=_embedding_legends(limits),
        ),
    ]
    for stem in shown:
        labels = read_labels(_pseudo_file(run, stem))
        panels = [
            ("Image", picture_of_image(images.images[stem])),
            *_embedding_panels(*predicted[stem], labels, limits),
            (
                f"Pseudo labels: {_count(labels)}",
                picture_of_labels(images.images[stem], labels),
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
    )


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
) -> list[tuple[str, RGB]]:
    foreground = resize_labels(labels, spread.shape) > BACKGROUND
    return [
        ("Embeddings", picture_of_offsets(offsets, foreground)),
        ("Spread under noise", picture_of_spread(spread, limits)),
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
        ("" if row else stage, name, _plain(one["value"], _UNITS.get(name, "")), one["reason"])
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
    return f"{value:.4g} {unit}".strip() if isinstance(value, float) else f"{value} {unit}".strip()


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
