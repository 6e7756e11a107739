"""Do suggested regions hold more errors than others? Truth scores them and chooses nothing.

    python benchmarks/suggestions.py RUN IMAGES MASKS [--count 20] [--window PX] [--random 400]

RUN is a model folder of `oce2stardist finetune`, IMAGES what it was trained on, MASKS their
complete labels. Windows are chosen as `oce2stardist suggest RUN` chooses them, by parts of its
criterion alone, and at random (around objects, and anywhere), never overlapping and never where
most is annotated. For each kind: F1 of the model and of the pseudo labels at IoU 0.5 within the
windows, pooled, and the model's errors (FP + FN) for each true cell that one would outline there.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oce2stardist.evaluation.scores import Scores, pool_scores, score_image
from oce2stardist.images.find import label_paths
from oce2stardist.images.label_files import read_labels
from oce2stardist.suggestion.evidence import SuggestionRun
from oce2stardist.suggestion.open_objects import compare_objects
from oce2stardist.suggestion.windows import choose_windows, propose_windows, window_side

Objects = dict[str, pd.DataFrame]


class Images:
    """What is known of every image, and its truth."""

    def __init__(self, source: SuggestionRun, masks: Path) -> None:
        files = {path.stem: path for path in source.paths.values()}
        truth_of = label_paths(files.values(), masks)
        self.truth, self.model, self.pseudo, self.known = {}, {}, {}, {}
        self.objects: Objects = {}
        for stem, path in source.paths.items():
            if path not in truth_of:
                continue
            view = source.view(stem)
            assert view.model is not None and view.probabilities is not None
            self.truth[stem] = read_labels(truth_of[path])
            is_found = np.append(False, view.probabilities >= source.prob_thresh)
            self.model[stem] = np.where(is_found[view.model], view.model, 0)
            if view.pseudo is not None:
                self.pseudo[stem] = np.maximum(view.pseudo, 0)
            self.known[stem] = view.known
            self.objects[stem] = compare_objects(
                view.model,
                view.probabilities,
                view.pseudo,
                view.confidence,
                known=view.known,
                prob_thresh=source.prob_thresh,
            )

    def propose(self, objects: Objects, window: int) -> pd.DataFrame:
        """Score windows around all objects, by the weights that the objects have."""
        return pd.concat(
            [
                propose_windows(
                    rows, self.truth[stem].shape, window=window, known=self.known[stem]
                ).assign(image=stem)
                for stem, rows in objects.items()
            ],
            ignore_index=True,
        )

    def score(self, windows: pd.DataFrame, labels: dict[str, NDArray[np.int32]]) -> Scores | None:
        """Score labels within windows."""
        scores = [
            score_image(labels[row.image][place], self.truth[row.image][place])
            for row, place in slices(windows)
            if row.image in labels
        ]
        return pool_scores(scores) if scores else None


def slices(windows: pd.DataFrame) -> Iterator[tuple[object, tuple[slice, slice]]]:
    """Go through windows with the part of the image that each is."""
    for row in windows.itertuples():
        yield row, np.s_[row.y0 : row.y1, row.x0 : row.x1]


def reweighted(objects: Objects, prob_thresh: float) -> dict[str, Objects]:
    """Weigh objects by the parts of the criterion."""
    parts: dict[str, Objects] = {"suggested": objects}
    parts["contradictions alone"] = {
        stem: rows.assign(weight=rows["kind"].isin(["model_only", "pseudo_only"]).astype(float))
        for stem, rows in objects.items()
    }
    parts["object probability alone"] = {
        stem: rows.assign(
            weight=((1 - rows["probability"]) / (1 - prob_thresh)).clip(0, 1).fillna(0.0)
        )
        for stem, rows in objects.items()
    }
    return parts


def random_windows(images: Images, window: int, count: int, seed: int) -> pd.DataFrame:
    """Draw windows anywhere, each image as often as any other."""
    rng = np.random.default_rng(seed)
    rows = []
    stems = list(images.truth)
    for stem in rng.choice(stems, 20 * count):
        shape = np.array(images.truth[stem].shape)
        sides = np.minimum(window, shape)
        y0, x0 = rng.integers(0, shape - sides + 1)
        place = np.s_[y0 : y0 + sides[0], x0 : x0 + sides[1]]
        if images.known[stem][place].mean() <= 0.5:
            rows.append((stem, y0, x0, y0 + sides[0], x0 + sides[1], rng.random()))
    return pd.DataFrame(rows, columns=["image", "y0", "x0", "y1", "x1", "score"])


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--count", type=int, default=20, help="windows of each criterion")
    parser.add_argument("--random", type=int, default=400, help="windows drawn at random")
    parser.add_argument("--window", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    source = SuggestionRun(arguments.run, images=arguments.images)
    images = Images(source, arguments.masks)
    window = arguments.window or window_side(list(images.objects.values()))
    n_images = len(images.truth)
    chosen = {
        name: choose_windows(
            images.propose(objects, window), count=arguments.count, n_images=n_images
        )
        for name, objects in reweighted(images.objects, source.prob_thresh).items()
    }
    around = images.propose(images.objects, window)
    around = around[around["is_open"]]
    around["score"] = np.random.default_rng(arguments.seed).random(len(around))
    anywhere = random_windows(images, window, arguments.random, arguments.seed)
    for name, candidates in (("random, around objects", around), ("random, anywhere", anywhere)):
        chosen[name] = choose_windows(candidates, count=arguments.random, n_images=n_images)

    everything = pool_scores([score_image(images.model[stem], images.truth[stem]) for stem in
                              images.truth])  # fmt: skip
    print(f"{n_images} images, windows of {window} px; the model's F1 on whole images is "
          f"{everything.f1:.3f}\n")  # fmt: skip
    print("| windows | n | true cells | model F1 | pseudo F1 | errors per true cell |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, windows in chosen.items():
        model, pseudo = (images.score(windows, of) for of in (images.model, images.pseudo))
        if model is None:
            print(f"| {name} | 0 | 0 | | | |")
            continue
        errors = (model.fp + model.fn) / max(model.n_true, 1)
        shown = "" if pseudo is None else f"{pseudo.f1:.3f}"
        print(
            f"| {name} | {len(windows)} | {model.n_true} | {model.f1:.3f} | {shown} "
            f"| {errors:.2f} |"
        )


if __name__ == "__main__":
    main()
