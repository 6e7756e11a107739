"""The command `oce2stardist evaluate`."""

import math
from typing import TYPE_CHECKING

import click

from .completion import paths
from .grouping import GroupedCommand
from .options import instances_option
from .results import prints_json, tell

if TYPE_CHECKING:
    from oce2stardist.labels import Instances


@click.command(cls=GroupedCommand)
@click.argument("predicted", shell_complete=paths)
@click.argument("truth", shell_complete=paths)
@click.option("--iou", type=float, default=0.5, show_default=True, help="Least IoU of a match.")
@click.option(
    "--border",
    type=float,
    default=0.0,
    help="Leave out objects whose centroid is closer to the image's edge, pixels.",
)
@instances_option
@prints_json(
    f1="of all images",
    seg="mean over true objects, null without any",
    precision="share of predicted objects that match",
    recall="share of true ones",
    tp="matches",
    fp="predicted only",
    fn="true only",
    n_true="true objects",
    n_predicted="predicted ones",
    iou_threshold="least IoU of a match",
    f1_by_iou="F1 at other thresholds",
    images="all but the last two by image",
)
def evaluate(
    predicted: str, truth: str, iou: float, border: float, instances: "Instances | None"
) -> None:
    """Score the label images in PREDICTED against those of the same name in TRUTH.

    Both are folders, or one file each, of label images or stacks. Pixels that are -1 in the truth
    count for nothing.

    \b
    Examples:
      oce2stardist evaluate labels/ truth/
      oce2stardist evaluate labels/ truth/ --iou 0.7 --border 10 --json
    """
    from oce2stardist.runners.evaluate import evaluate_folders

    scores = evaluate_folders(
        predicted, truth, iou=iou, border=border, instances=instances or "auto"
    )
    lines = [f"{'image':<32} {'F1':>6} {'SEG':>6} {'true':>6} {'found':>6}"]
    for name, row in (*scores.images.items(), ("all", scores.pooled)):
        seg = "-" if math.isnan(row.seg) else f"{row.seg:.3f}"
        lines.append(f"{name:<32} {row.f1:6.3f} {seg:>6} {row.n_true:6d} {row.n_predicted:6d}")
    tell(scores.to_dict(), lines)
