"""Say in two sentences a study what its tables show: F1 over all images, and never more.

docs/experiments.md says what each sentence claims.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from oce2stardist.experiments.compare import ALL

# F1, all by taste:
PLATEAU = 0.01  # within this it is called unchanged, as annotations are added
EQUAL = 0.005  # lower by no more than this does the same
NEAR_BEST = 0.02  # a scale lower by no more than this is in the range that works
_ROUNDING = 1e-9


def answer(study: str, summary: pd.DataFrame) -> list[str]:
    """Say what the `summary.csv` of a study shows; of several data sets, sentences name theirs.

    The oracle, which looks at the truth, takes no part.
    """
    answers = {"fractions": _fractions, "unsupervised": _best_method, "scales": _scales}
    if study not in answers:
        raise ValueError(
            f"study must be fractions, unsupervised or scales. Got {study!r}; choose one of these."
        )
    rows = summary[(summary["group"] == ALL) & (summary["method"] != "oracle")]
    scored = rows[rows["f1_mean"].notna()]
    several = rows["data_set"].nunique() > 1
    said = []
    for name in rows["data_set"].unique():
        own = scored[scored["data_set"] == name]
        sentences = answers[study](own) if len(own) else ["Nothing has a score."]
        said += [f"{name}: {sentence}" if several else sentence for sentence in sentences]
    if study == "unsupervised" and several and len(scored):
        f1 = scored.assign(f1=scored["f1_mean"].round(3))
        best = f1[f1["f1"] == f1.groupby("data_set")["f1"].transform("max")]
        won = [f"{method} on {n}" for method, n in Counter(best["method"]).most_common()]
        said.append(f"Highest F1, of {scored['data_set'].nunique()} data sets: {_join(won)}.")
    return said


def _fractions(rows: pd.DataFrame) -> list[str]:
    """Say how many cells are enough, and how many with pseudo labels do the same."""
    trained = rows[rows["method"] == "finetune"].sort_values("cells")
    curves = {float(str(alpha)): curve for alpha, curve in trained.groupby("alpha")}
    if not curves:
        return ["No training has a score."]
    least = min(curves)
    sentences = [_plateau(curves[least], least)]
    if least == 0:
        sentences += [_saving(curves[a], curves[0.0], a) for a in curves if a > 0]
    return sentences


def _plateau(curve: pd.DataFrame, alpha: float) -> str:
    """Say beyond how many cells the highest and the lowest F1 are less than `PLATEAU` apart."""
    cells, f1 = curve["cells"].to_numpy(), curve["f1_mean"].to_numpy()
    first = next(at for at in range(len(f1)) if np.ptp(f1[at:]) < PLATEAU - _ROUNDING)
    if first == len(f1) - 1:
        return (
            f"Alpha {alpha:g}: F1 {f1[-1]:.3f} with {_cells(cells[-1])}, the most that was tried; "
            f"whether more would help can't be said {_runs(curve)}."
        )
    return (
        f"Alpha {alpha:g}: beyond {_cells(cells[first])}, annotating more (up to "
        f"{round(cells[-1]):,}) changes F1 by less than {PLATEAU:g}: {f1[first]:.3f} there, "
        f"{f1[-1]:.3f} with most {_runs(curve)}."
    )


def _saving(curve: pd.DataFrame, alone: pd.DataFrame, alpha: float) -> str:
    """Say how few cells, with and without pseudo labels, come within `EQUAL` of the best F1."""
    best, runs = alone["f1_mean"].max(), _runs(pd.concat([curve, alone]))
    enough, enough_alone = (
        side[side["f1_mean"] >= best - EQUAL - _ROUNDING] for side in (curve, alone)
    )
    many = enough_alone.iloc[0]
    if enough.empty:
        return (
            f"With pseudo labels (alpha {alpha:g}) F1 stays more than {EQUAL:g} below the best "
            f"without, {best:.3f}: at most {curve['f1_mean'].max():.3f} {runs}."
        )
    few = enough.iloc[0]
    return (
        f"With pseudo labels (alpha {alpha:g}), {_cells(few['cells'])} do what "
        f"{round(many['cells']):,} do without: F1 {few['f1_mean']:.3f} and {many['f1_mean']:.3f}, "
        f"the best without is {best:.3f} {runs}."
    )


def _best_method(rows: pd.DataFrame) -> list[str]:
    """Say which methods have the highest F1 to three decimals, and which comes next."""
    f1 = rows["f1_mean"].round(3)
    first, others = rows[f1 == f1.max()], rows[f1 < f1.max()]
    verb = "is best" if len(first) == 1 else "share the first place"
    said = f"{_join(list(first['method']))} {verb}, F1 {f1.max():.3f}"
    if len(others):
        second = others.loc[others["f1_mean"].idxmax()]
        said += f"; next {second['method']}, {second['f1_mean']:.3f}"
    return [f"{said} {_runs(rows)}."]


def _scales(rows: pd.DataFrame) -> list[str]:
    """Say the best scale, and between which scales around it F1 is within `NEAR_BEST` of its."""
    curve = rows[rows["scale"].notna()].sort_values("scale")
    if curve.empty:
        return ["No scale has a score."]
    scales, f1 = curve["scale"].to_numpy(), curve["f1_mean"].to_numpy()
    best = int(np.argmax(f1))
    far = f1 < f1[best] - NEAR_BEST - _ROUNDING
    # The first that is far, below and above, ends the range.
    low = best - int(np.argmax(np.append(far[:best][::-1], True)))
    high = best + int(np.argmax(np.append(far[best + 1 :], True)))
    edge = " It is at the edge of those tried: the best may lie beyond."
    return [
        f"Best at scale {scales[best]:g} with F1 {f1[best]:.3f} {_runs(curve)}."
        + (edge if best in (0, len(f1) - 1) else ""),
        f"From scale {scales[low]:g} to {scales[high]:g} F1 is at most {NEAR_BEST:g} lower; "
        f"lowest {f1.min():.3f} at {scales[int(np.argmin(f1))]:g}.",
    ]


def _runs(rows: pd.DataFrame) -> str:
    """Say how many repeats the means are of, and how much these differ."""
    fewest, most = int(rows["repeats"].min()), int(rows["repeats"].max())
    if most == 1:
        return "(one run each)"
    number = f"{most} runs each" if fewest == most else f"{fewest} to {most} runs each"
    return f"({number}, sd up to {rows['f1_sd'].max():.3f})"


def _cells(number: float) -> str:
    return f"{round(number):,} cell{'' if round(number) == 1 else 's'}"


def _join(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
