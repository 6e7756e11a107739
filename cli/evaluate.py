"""The command `oce2stardist evaluate`."""

import json
import math

import click


@click.command()
@click.argument("predicted")
@click.argument("truth")
@click.option("--iou", type=float, default=0.5, show_default=True, help="Least IoU of a match.")
@click.option(
    "--border",
    type=float,
    default=0.0,
    help="Leave out objects whose centroid is closer to the image's edge, pixels.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(predicted: str, truth: str, iou: float, border: float, as_json: bool) -> None:
    """Score the label images in PREDICTED against those of the same name in TRUTH."""
    from oce2stardist.runners.evaluate import evaluate_folders

    scores = evaluate_folders(predicted, truth, iou=iou, border=border)
    if as_json:
        click.echo(json.dumps(scores.to_dict()))
        return
    pooled = scores.pooled
    click.echo(f"{'image':<32} {'F1':>6} {'SEG':>6} {'true':>6} {'found':>6}")
    for name, row in (*scores.images.items(), ("all", pooled)):
        seg = "-" if math.isnan(row.seg) else f"{row.seg:.3f}"
        click.echo(f"{name:<32} {row.f1:6.3f} {seg:>6} {row.n_true:6d} {row.n_predicted:6d}")
