"""Choose alpha, train, judge, and train again: what `finetune` does between files and report.

Where each step is: alpha is chosen in `training_labels.alpha`; the drawn start is asked in
`stardist_model.witness`, and taught in `stardist_model.teacher`; `stardist_model.fit` trains, and
goes on where a training stopped, with the loss of `stardist_model.loss`; `stardist_model.judge`
asks the held-back cells; `runners.how_many_more` asks what more of them would bring.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from oce2stardist.errors import plural
from oce2stardist.labels import FoundObjects, Labels, object_sizes
from oce2stardist.pseudo_labels.files import Confidences, PseudoLabels
from oce2stardist.pseudo_labels.witness import keep_agreed
from oce2stardist.reports import choose_evenly
from oce2stardist.reports.wording import sentence
from oce2stardist.runners.how_many_more import tell_how_many_more
from oce2stardist.runs.folder import Times
from oce2stardist.stardist_model.blend import Blend, choose_share
from oce2stardist.stardist_model.compare import compare_with_sources
from oce2stardist.stardist_model.fit import TrainingJob
from oce2stardist.stardist_model.folds import choose_folds, cross_validate
from oce2stardist.stardist_model.parameters import Parameters, describe_model, describe_use
from oce2stardist.stardist_model.rounds import train_rounds
from oce2stardist.stardist_model.teacher import can_teach, teach
from oce2stardist.stardist_model.witness import ask_start, choose_witness
from oce2stardist.training_labels.alpha import choose_alpha
from oce2stardist.training_labels.draw_cells import Draw, draw_held_back, split_folds
from oce2stardist.training_labels.files import write_training_labels
from oce2stardist.training_labels.hints import HintedImage, summarise
from oce2stardist.training_labels.make import TrainingLabels, make_training_labels

_MOST_LABELLED = 150
"""Images that the start and the teacher label: a training sees some thousand patches, and tens of
thousands of images would take hours."""


@dataclass(frozen=True)
class Sources:
    """What a model learns from.

    Attributes
    ----------
    annotations : mapping of image stem to int32 array of shape (Y, X)
        Cells > 0, known background 0, unknown -1.
    cells : Draw
        Those of the annotated cells that are used.
    complete : bool
        The annotations are complete, and few are simulated; see `make_training_labels`.
    pseudo : PseudoLabels
        Of a run; may be of no image.
    begins_drawn : bool
        The training begins with the network that has seen drawn cells.
    hinted : mapping of image stem to HintedImage
        What points, boxes and verdicts make of `pseudo`.
    """

    annotations: Mapping[str, Labels]
    cells: Draw
    complete: bool
    pseudo: PseudoLabels
    begins_drawn: bool
    hinted: Mapping[str, HintedImage]

    @property
    def corrected(self) -> PseudoLabels:
        """The pseudo labels without the objects that hints refute."""
        return self.pseudo.replaced({stem: one.labels for stem, one in self.hinted.items()})


def refine(job: TrainingJob, sources: Sources, *, times: Times) -> tuple[Parameters, pd.DataFrame]:
    """Choose alpha, train, judge, train again as often as asked; returns what was chosen."""
    settings, seed, given = job.config.stardist, job.config.seed, sources.corrected
    merge = partial(
        make_training_labels,
        sources.annotations,
        cells=sources.cells,
        complete=sources.complete,
        background_distance=job.config.merge.background_distance,
        overlap=job.config.merge.overlap,
        hinted=sources.hinted,
    )
    weigh = partial(choose_alpha, settings.alpha, seed=seed)
    n_cells = sum(map(len, sources.cells.values()))
    n_folds = choose_folds(settings, n_cells)
    share = 0.0 if n_folds else settings.held_back
    held_back = draw_held_back(sources.cells, share=share, seed=seed)
    n_held_back = sum(map(len, held_back.values()))
    labels, asked, witness = merge(given, held_back=held_back), None, None
    annotated = {stem for stem, cells in sources.cells.items() if cells}.union(sources.hinted)
    others = set(job.images).difference(annotated)
    labelled = [*sorted(annotated), *choose_evenly(others, max(0, _MOST_LABELLED - len(annotated)))]
    if sources.begins_drawn and job.init is not None:
        with times.measure("witnesses"):
            asked = ask_start(job, labels.known, start=job.init)
            if settings.alpha == "auto":
                witness = choose_witness(job, given.labels, asked, stems=labelled)
        settings = settings.filled(from_nothing=False, knows=asked.knows)
        job = replace(job, config=job.config.model_copy(update={"stardist": settings}))
        if witness is not None and witness.labels is not None:
            given = PseudoLabels(witness.labels.labels, witness.labels.confidence)
            labels = merge(given, held_back=held_back)
    where = sum(map(bool, sources.cells.values()))
    if n_cells:
        job.reporter.say(
            f"{plural(n_cells, 'annotated cell')} in {where} of "
            f"{plural(len(job.images), 'image')}: "
            f"{describe_use(n_cells, n_held_back=n_held_back, n_folds=n_folds)}."
        )
    hints, n_confirmed = "", sum(len(one.cells) for one in sources.hinted.values())
    if sources.hinted:
        hints = summarise(sources.hinted.values())
        job.reporter.say(sentence(hints))
    if witness is not None:
        job.reporter.say(f"pseudo labels are those of the {witness.name}: {witness.reason}.")
    # where someone confirmed objects and outlined none, the run's own doubt is no reason for 0
    trusted = None if n_confirmed and not n_cells else given.trusted
    alpha = weigh(given.labels, labels.known, trusted=trusted)
    job.reporter.say(f"alpha {alpha.value:g}: {alpha.reason}.")
    begins = "drawn cells" if sources.begins_drawn else job.init or "nothing"
    if asked is not None and asked.windows:
        begins = f"{begins} ({asked.say()})"
    rate = f"learning rate {settings.learning_rate:g}"
    job.reporter.say(f"It begins with {begins}: {plural(settings.steps or 0, 'step')}, {rate}.")
    kept = ""
    share = choose_share(
        settings.start_share,
        n_annotated=len(annotated),
        n_images=len(job.images),
        begins_drawn=asked is not None,
    )
    if share and job.init is not None:
        start = job.init if asked is None else asked.model
        job = replace(job, blend=Blend.with_start(start, share))
        kept = (
            f"{share:g} of the start stays in the model: of {plural(len(job.images), 'image')} "
            f"{len(annotated)} have annotated cells"
        )
        job.reporter.say(sentence(kept))
    scale = job.scale.model
    job.reporter.say(f"scale {scale.factor:g}: {scale.reason}.")
    training, taught, first = job, "", given
    enough = can_teach(
        settings,
        n_cells=n_cells - n_held_back + n_confirmed,
        n_annotated=len(annotated),
        n_images=len(job.images),
        alpha=alpha.value,
    )
    if witness is not None and enough:
        with times.measure("teacher"):
            training, found = teach(job, labels, stems=labelled)
        given, taught = _agreed(found, given)
        job.reporter.say(taught)
        labels = merge(given, held_back=held_back)
    if not (job.folder / "training" / "cells.csv").exists():
        write_training_labels(job.folder / "training", labels)
    verdict = None
    if n_folds:
        with times.measure("cross_validation"):
            parts = split_folds(sources.cells, n_folds, seed)
            folds = (merge(given, held_back=fold) for fold in parts)
            verdict = cross_validate(job, folds, n_folds=n_folds, alpha=alpha.value)

    def relabel(own: dict[str, Labels], sure: Confidences) -> tuple[TrainingLabels, float]:
        # only the held-back cells judge: the model has seen the others
        own_alpha = weigh(own, labels.held_back, trusted=None).value
        return merge(PseudoLabels(own, sure), held_back=held_back), own_alpha

    with times.measure("training"):
        best, rounds = train_rounds(
            training, labels, alpha=alpha.value, verdict=verdict, relabel=relabel
        )
    history = best.trained.history
    counts = {"n_cells": n_cells, "n_held_back": n_held_back, "n_folds": n_folds}
    parameters = describe_model(alpha, history, best.verdict, **counts, rounds=rounds, seed=seed)
    if hints:
        parameters["hints"] = {"value": n_confirmed, "reason": hints}
    parameters["scale"] = {"value": scale.factor, "reason": scale.reason}
    for name in ("steps", "learning_rate"):
        parameters[name] = {"value": getattr(settings, name), "reason": f"it begins with {begins}"}
    if kept:
        parameters["start_share"] = {"value": share, "reason": kept}
    if witness is not None:
        parameters["labels_from"] = {"value": witness.name, "reason": witness.reason}
    if taught:
        parameters["teacher"] = {"value": True, "reason": taught}
    asked_start = None if asked is None else asked.model
    compared = compare_with_sources(job, best.verdict, sources.pseudo.labels, start=asked_start)
    if compared is not None:
        parameters["best"] = compared.describe()
        tell = job.reporter.warn if compared.is_clearly_worse else job.reporter.say
        tell(sentence(compared.say()))
    if settings.how_many_more:
        with times.measure("how_many_more"):
            # the teacher has seen every cell, so its labels would tell the parts of the others
            told = tell_how_many_more(
                job, sources.cells, partial(merge, first), held_back, alpha=alpha.value
            )
        parameters["how_many_more"] = told
        job.reporter.say(sentence(told["reason"]))
    return parameters, history


def _agreed(found: FoundObjects, given: PseudoLabels) -> tuple[PseudoLabels, str]:
    """Keep the teacher's objects that the pseudo labels have, too, where there are such labels."""
    labels = {
        stem: keep_agreed(one, given.labels[stem]) if stem in given.labels else one
        for stem, one in found.labels.items()
    }
    kept = sum(len(object_sizes(one)[0]) for one in labels.values())
    count = sum(map(len, found.confidence.values()))
    said = (
        f"A teacher that has learned the annotated cells finds {plural(count, 'cell')}; {kept} of "
        "them, on which the pseudo labels agree, are taught."
    )
    return PseudoLabels(labels, found.confidence), said
