"""Folders of experiments with known content, as the runner leaves them, without running any."""

import itertools

import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import save_file
from scenes import discs_scene

from oce2stardist.config import Config
from oce2stardist.datasets.labelled import LabelledImage, LabelledImages
from oce2stardist.images.label_files import write_labels
from oce2stardist.runs.folder import write_run_file

RESULTS = [
    "study", "data_set", "method", "fraction", "cells", "alpha", "scale", "seed", "oracle", "image",
    "group", "f1", "seg", "precision", "recall", "tp", "fp", "fn", "n_true", "n_predicted", "run",
]  # fmt: skip
SUMMARY = [
    "study", "data_set", "method", "fraction", "cells", "alpha", "scale", "oracle", "group",
    "repeats", "f1_mean", "f1_sd", "seg_mean", "seg_sd",
]  # fmt: skip
CURVES = [
    "data_set", "method", "fraction", "alpha", "scale", "seed", "oracle", "group", "iou", "f1",
    "seg_at",
]  # fmt: skip


def summary_row(**values):
    """A row of summary.csv: pseudo labels on "set", scored on all images, unless told."""
    return {
        "study": "unsupervised",
        "data_set": "set",
        "method": "pseudo",
        "fraction": np.nan,
        "cells": np.nan,
        "alpha": np.nan,
        "scale": np.nan,
        "oracle": values.get("method") == "oracle",
        "group": "(all)",
        "repeats": 1,
        "f1_mean": 0.5,
        "f1_sd": np.nan,
        "seg_mean": 0.4,
        "seg_sd": np.nan,
    } | values


def fractions_summary(groups=("(all)",)):
    """Two alphas at four fractions, better with more cells, and pseudo labels alone."""
    rows = []
    for (at, group), alpha, fraction in itertools.product(
        enumerate(groups), (0.0, 0.5), (0.0025, 0.01, 0.1, 1.0)
    ):
        cells = round(fraction * 20_000 / (1 + at))
        f1 = 0.9 - 0.01 * at - (0.5 - 0.5 * alpha) * np.exp(-cells / 150)
        rows.append(
            summary_row(
                study="fractions", method="finetune", fraction=fraction, cells=cells, alpha=alpha,
                group=group, repeats=3, f1_mean=f1, f1_sd=0.02 + 0.01 * at, seg_mean=f1 - 0.1,
                seg_sd=0.03,
            )
        )  # fmt: skip
    for group in groups:
        pseudo = {"fraction": 0.0, "cells": 0, "alpha": 1.0, "f1_mean": 0.8, "seg_mean": 0.7}
        rows.append(summary_row(study="fractions", group=group, **pseudo))
    return pd.DataFrame(rows)


def labelled(scenes, groups=None, reads=None):
    """Labelled images of (image, labels) by stem; the list `reads` gets the stems that are read."""
    groups = dict.fromkeys(scenes, "") | (groups or {})

    def read(positions):
        for at in positions:
            stem = list(scenes)[at]
            if reads is not None:
                reads.append(stem)
            yield LabelledImage(stem, *scenes[stem], groups[stem])

    return LabelledImages(list(scenes), list(groups.values()), read)


def labelled_images(stems, *, shape=(60, 90), n=6, radius=7.0):
    """Images of discs, named so."""
    drawn = [discs_scene(n, shape, radius, seed=at) for at in range(len(stems))]
    scenes = {
        stem: (image[..., None], labels) for stem, (image, labels) in zip(stems, drawn, strict=True)
    }
    return labelled(scenes)


class ExperimentFolder:
    """Collects cells, and writes the tables of all of them."""

    def __init__(self, path, study):
        self.path, self.study = path, study
        self.results, self.summary, self.curves = [], [], []

    def add_cell(self, name, *, status="finished", reason="", kind="classical", needs=None):
        """Write a cell that ended like this; returns its folder."""
        folder = self.path / "cells" / name
        folder.mkdir(parents=True)
        about = {"name": name, "kind": kind, "needs": needs or {}, "settings": {}}
        (folder / "cell.yaml").write_text(yaml.safe_dump(about))
        if status is not None:
            outcome = {"status": status, "reason": reason, "seconds": 1.0}
            (folder / "outcome.yaml").write_text(yaml.safe_dump(outcome))
        return folder

    def add_scores(self, cell, data_set, images, f1, **values):
        """Score images from `f1` downwards, in their order, with labels shifted by a pixel."""
        row = {name: np.nan for name in RESULTS} | {
            "study": self.study, "data_set": data_set, "method": "classical", "seed": 0,
            "oracle": values.get("method") == "oracle", "run": f"cells/{cell.name}",
        } | values  # fmt: skip
        for at, one in enumerate(images):
            write_labels(cell / "labels" / f"{one.stem}.tif", np.roll(one.labels, 1, axis=1))
            own = {"image": one.stem, "group": "", "f1": f1 - 0.05 * at, "seg": f1 / 2}
            self.results.append(row | own)
        pooled = {"image": "(all)", "group": "(all)", "f1": f1, "seg": f1 - 0.1}
        self.results.append(row | pooled)
        kept = {name: row[name] for name in SUMMARY if name in row}
        scores = {"f1_mean": f1, "f1_sd": np.nan, "seg_mean": f1 - 0.1, "seg_sd": np.nan}
        self.summary.append(kept | scores | {"group": "(all)", "repeats": 1})
        for iou in np.arange(0.5, 1, 0.05).round(2):
            at = {"group": "(all)", "iou": iou, "f1": f1 * (1 - iou**4), "seg_at": f1 - iou / 2}
            self.curves.append({name: row[name] for name in CURVES if name in row} | at)

    def add_unscored(self, name, data_set, method, *, status, reason=""):
        """Add a cell that has a row in the results, but no scores."""
        self.add_cell(name, status=status, reason=reason, kind=method.partition(":")[0])
        self.results.append(
            {name: np.nan for name in RESULTS}
            | {"study": self.study, "data_set": data_set, "method": method, "seed": 0,
               "oracle": False, "image": "(all)", "group": "(all)", "n_true": 0,
               "run": f"cells/{name}"}
        )  # fmt: skip

    def add_missing(self, name, data_set, method, reason):
        """Add a method whose weights can't be had."""
        self.add_unscored(name, data_set, method, status="missing", reason=reason)
        empty = {"f1_mean": np.nan, "seg_mean": np.nan}
        self.summary.append(summary_row(study=self.study, data_set=data_set, method=method) | empty)

    def write(self):
        """Write tables and run.yaml; returns the folder."""
        for name, rows, columns in (
            ("results", self.results, RESULTS),
            ("summary", self.summary, SUMMARY),
            ("curves", self.curves, CURVES),
        ):
            table = pd.DataFrame(rows, columns=columns)
            table.to_csv(self.path / f"{name}.csv", index=False)
        write_run_file(self.path, command="oce2stardist experiment x", config=Config(), inputs={})
        return self.path


def keep_embeddings(cell, images, *, threshold=1.0):
    """Write what a run of stage one keeps of images: arrows to the middles of discs."""
    run = cell / "run"
    (run / "pseudo").mkdir(parents=True)
    write_run_file(run, command="x", config=Config(), inputs={})
    chosen = {"threshold": {"value": threshold}, "bandwidth": {"value": 5.0}}
    (run / "pseudo" / "parameters.yaml").write_text(yaml.safe_dump(chosen))
    (run / "oce" / "predicted").mkdir(parents=True)
    for one in images:
        offsets = np.random.default_rng(0).uniform(-9, 9, (2, *one.labels.shape))
        for label in range(1, one.labels.max() + 1):
            places = np.argwhere(one.labels == label)
            offsets[:, one.labels == label] = (places.mean(axis=0) - places).T
        arrays = {
            "offsets": offsets.astype(np.float16),
            "spread": np.where(one.labels > 0, 0.2, 5.0).astype(np.float16),
        }
        save_file(arrays, run / "oce" / "predicted" / f"{one.stem}.safetensors")


def unsupervised_experiment(path, data_sets=("one", "two"), stems=None):
    """Pseudo labels, which beat the classical baseline, an oracle above both, and no Cellpose.

    Returns
    -------
    folder, test images by data set
    """
    made = ExperimentFolder(path, "unsupervised")
    every = {}
    for at, name in enumerate(data_sets):
        images = every[name] = labelled_images(stems or [f"{name}{i:02d}" for i in range(6)])
        trained = made.add_cell(f"{at}-embeddings", kind="train_embeddings")
        keep_embeddings(trained, images)
        needs = {"embeddings": trained.name}
        for method, f1 in (("pseudo", 0.8), ("classical", 0.6), ("oracle", 0.9)):
            cell = made.add_cell(f"{at}-{method}", kind=method, needs=needs)
            made.add_scores(cell, name, images, f1 - 0.01 * at, method=method)
        made.add_missing(f"{at}-cellpose", name, "cellpose:cyto3", "no weights <here>")
    return made.write(), every


def fractions_experiment(path, data_set="set", seeds=3):
    """Fine-tuned models on two fractions and two alphas; one cell has failed."""
    made = ExperimentFolder(path, "fractions")
    images = labelled_images([f"a{i:02d}" for i in range(9)])
    for alpha, fraction, seed in itertools.product((0.0, 0.5), (0.01, 1.0), range(seeds)):
        cell = made.add_cell(f"finetune-{fraction}-{alpha}-seed{seed}", kind="finetune")
        f1 = 0.6 + 0.1 * fraction + 0.2 * alpha * (1 - fraction) + 0.01 * seed
        made.add_scores(
            cell, data_set, images, f1, method="finetune", fraction=fraction, alpha=alpha,
            cells=round(2000 * fraction), seed=seed,
        )  # fmt: skip
    pseudo = made.add_cell("pseudo", kind="label_test_images")
    keep_embeddings(pseudo, images)
    made.add_scores(
        pseudo, data_set, images, 0.65, method="pseudo", fraction=0.0, cells=0, alpha=1.0
    )
    made.add_unscored(
        "finetune-0.1-0.5-seed0", data_set, "finetune", status="failed", reason="out of memory"
    )
    made.add_unscored("finetune-0.1-0.5-seed1", data_set, "finetune", status=None)
    table = pd.DataFrame(made.summary)
    keys = ["study", "data_set", "method", "fraction", "cells", "alpha", "oracle", "group"]
    grouped = table.groupby(keys, sort=False, dropna=False)
    made.summary = grouped.agg(
        repeats=("f1_mean", "size"), f1_sd=("f1_mean", "std"), seg_sd=("seg_mean", "std"),
        f1_mean=("f1_mean", "mean"), seg_mean=("seg_mean", "mean"),
    ).reset_index().to_dict("records")  # fmt: skip
    return made.write(), {data_set: images}
