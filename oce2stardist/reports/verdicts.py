"""Say first what came of a run, why, and what to do next: the head of every page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from oce2stardist.errors import plural
from oce2stardist.reports.drawing.page import Guide, Light, Step, Verdict
from oce2stardist.reports.run_files import read_record
from oce2stardist.reports.wording import capital, sentence

_BY_PICTURE = Guide("by-picture.html", "What you see, and what to change")
_IMAGES = Guide("images.html", "Your own images")
_STACKS = Guide("stacks.html", "Stacks")

_POOR_F1, _GOOD_F1, _FEW_CELLS = 0.5, 0.7, 10
"""Of a model on the annotated cells that judged it: as `pseudo_labels.trust` takes them."""


def pseudo_verdict(run: Path, trust: Mapping[str, Any] | None, *, of_start: bool) -> Verdict:
    """Say whether to train on the labels of a run; `trust` is that of its parameters.yaml.

    `of_start`: its labels failed, and those of the drawn start were taken instead.
    """
    images = quote(str(read_record(run / "run.yaml")["inputs"].get("images_from") or "images/"))
    # Images larger than memory are annotated and trained on in crops.
    crops = quote(str(run / "crops")) if (run / "crops").is_dir() else images
    given = quote(str(run))
    look = Step("Look at the pictures below. Are the outlined objects your cells?")
    outline = Step(
        "Outline a few dozen cells and save them in masks/, named like the images. These regions "
        "are worth it most:",
        f"oce2stardist suggest {given}",
    )
    train = Step(
        "Train:", f"oce2stardist finetune {crops} --pseudo {given} --annotations masks/ -o model"
    )
    if trust is None:
        why = "This run did not judge its labels. Only the pictures tell whether they are right."
        return Verdict("amber", why, [look, outline, train], _BY_PICTURE)
    measures = ", ".join(f"{name} {value:.2f}" for name, value in trust["measures"].items())
    measured = f" Measured, from 0 to 1, high is good: {measures}." if measures else ""
    if trust["value"] and trust.get("overruled"):
        return Verdict("amber", sentence(trust["reason"]), [look, outline, train], _BY_PICTURE)
    if trust["value"]:
        said = f"All measures of these labels are good.{measured}"
        return Verdict("green", said, [look, outline, train], _BY_PICTURE)
    if of_start:
        said = (
            "These labels are those of the network that has seen drawn cells only, because its own "
            f"failed: {sentence(trust['reason'])[:1].lower()}{sentence(trust['reason'])[1:]}"
        )
        return Verdict("amber", said + measured, [look, outline, train], _BY_PICTURE)
    steps = [
        *([Step(trust["advice"])] if "advice" in trust else []),
        Step(
            "Compare the circles of the diameter picture with your cells. If they do not fit, say "
            "the diameter in pixels:",
            f"oce2stardist pseudo {images} -o {given} --diameter PIXELS --overwrite",
        ),
        Step(
            "Or outline a few dozen cells in masks/ and train on them alone:",
            f"oce2stardist finetune {crops} --annotations masks/ --alpha 0 -o model",
        ),
    ]
    said = f"Do not train on these labels yet: {sentence(trust['reason'])[:1].lower()}"
    return Verdict("red", said + sentence(trust["reason"])[1:] + measured, steps, _BY_PICTURE)


def stack_verdict(run: Path, trust: Mapping[str, Any]) -> Verdict:
    """Say what the labels of stacks are worth; `trust` is that of their parameters.yaml."""
    measures = ", ".join(f"{name} {value:.2f}" for name, value in trust["measures"].items())
    measured = f" Measured, from 0 to 1, high is good: {measures}." if measures else ""
    look = Step("Look at the sections below. Are the outlined objects your cells?")
    use = Step(
        f"The labels are stacks of their own, for Fiji or napari: {run / 'pseudo' / 'labels'}"
    )
    if trust["value"]:
        said = f"All measures of these labels are good.{measured}"
        return Verdict("green", said, [look, use], _STACKS)
    images = quote(str(read_record(run / "run.yaml")["inputs"].get("images_from") or "stacks/"))
    steps = [
        *([Step(trust["advice"])] if "advice" in trust else []),
        look,
        Step(
            "Measure a few cells. If the diameter in the table below is another, say it in pixels "
            "of x, with the options that you gave before:",
            f"oce2stardist pseudo {images} -o {quote(str(run))} --diameter PIXELS --overwrite",
        ),
    ]
    reason = sentence(trust["reason"])
    said = f"Do not rely on these labels yet: {reason[:1].lower()}{reason[1:]}{measured}"
    return Verdict("red", said, steps, _STACKS)


def finetune_verdict(
    model: Path, parameters: Mapping[str, Mapping[str, Any]], n_judge: int
) -> Verdict:
    """Say whether to use a model, by what the annotated cells that judged it say."""
    best, f1 = parameters.get("best"), parameters.get("f1", {})
    compared = sentence(best["reason"]) if best else ""
    given, value = quote(str(model)), f1.get("value")
    use = Step(
        "Find cells in new images:",
        f"oce2stardist predict new_images/ --model {given} -o cells --write labels,csv,overlay",
    )
    more = Step(
        "Outline the cells that it gets wrong, and train again with all of them. These regions "
        "help most:",
        f"oce2stardist suggest {given}",
    )
    measure = Step(
        "For a score to publish, outline whole images that took no part, and compare:",
        "oce2stardist evaluate cells/ truth/",
    )
    if value is None:
        said = f"No annotated cell judged this model, so nothing tells how good it is. {compared}"
        return Verdict("amber", said.strip(), [more, use], _BY_PICTURE)
    said = f"F1 {value:.2f} on {plural(n_judge, 'annotated cell')} that did not train. {compared}"
    if not n_judge:  # folds: every cell judged a training that had not seen it
        said = (
            f"F1 {value:.2f} on annotated cells, each judged by a training without it. {compared}"
        )
    light: Light = "green"
    if value < _GOOD_F1 or 0 < n_judge < _FEW_CELLS:
        light = "amber"
    if value < _POOR_F1 or (best and best.get("clearly_worse", False)):
        light = "red"
    if 0 < n_judge < _FEW_CELLS:
        said = f"{said.strip()} So few cells tell little."
    steps = {"green": [use, more, measure], "amber": [more, use], "red": [more]}[light]
    return Verdict(light, said.strip(), steps, _BY_PICTURE)


def demo_verdict(scores: Sequence[Mapping[str, Any]]) -> Verdict:
    """Say whether the model that learned from both did best, as it should."""
    best = max(scores, key=lambda score: float(score["f1"]))
    last = scores[-1]
    said = f"{capital(best['name'])} did best where nothing was annotated: F1 {best['f1']:.3f}."
    light: Light = "green" if last["f1"] >= best["f1"] else "amber"
    if light == "amber":
        said += f" {capital(last['name'])} had {last['f1']:.3f}. One object more or less is 0.02."
    steps = [
        Step(
            "Everything works on this machine. Put your own images into images/, and find cells:",
            "oce2stardist pseudo images/ -o run",
        )
    ]
    return Verdict(light, said, steps, _IMAGES)


def experiment_verdict(statuses: Sequence[str]) -> Verdict:
    """Say whether the grid is complete; `statuses` are those of runs that have not finished."""
    guide = Guide("experiments.html", "Reproducing the paper")
    compare = Step(
        "Compare it with another experiment:", "oce2stardist experiment compare OUT OTHER"
    )
    if not statuses:
        return Verdict("green", "Every run of the grid has finished.", [compare], guide)
    counts = ", ".join(f"{count} {status}" for status, count in Counter(statuses).items())
    said = (
        f"Not every run of the grid has finished: {counts}. Scores are of those that have; the "
        "reasons are in the table of runs below."
    )
    again = Step("Give the same command again. What has finished is not repeated.")
    return Verdict("red" if "failed" in statuses else "amber", said, [again], guide)
