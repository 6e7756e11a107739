"""The commands `oce2stardist experiment ...`."""

from pathlib import Path
from typing import Any

import click

from .completion import paths, study_presets
from .grouping import GroupedCommand
from .options import (
    Command,
    cluster_options,
    deterministic_option,
    output_option,
    verbosity_options,
)
from .results import prints_json, tell


@click.group()
def experiment() -> None:
    """Reproduce the paper's studies, or ask how many cells you should annotate.

    \b
    Examples:
      oce2stardist experiment fractions fractions-quick --data bbbc039 -o OUT
      oce2stardist experiment unsupervised my.yaml -o OUT --dry-run
      oce2stardist experiment compare OUT OTHER

    CONFIG is a YAML file, or a preset by name: fractions, unsupervised and scales are as in
    the paper, those with -quick run in hours on a laptop.
    """


def _study(command: Command) -> Command:
    """Add what every study takes."""
    for option in (
        prints_json(
            planned="with --dry-run a list of cell, is_finished; else null",
            summary="rows of summary.csv",
            answers="what they say, in sentences",
            unfinished="status and reason by cell",
            report="page of pictures",
        ),
        verbosity_options,
        cluster_options("Grid cells that run at a time on this machine."),
        deterministic_option,
        click.option("--dry-run", is_flag=True, help="List what would run."),
        click.option("--seed", type=int, help="The first seed.  [default: from the config]"),
        click.option(
            "--data",
            "paths",
            multiple=True,
            metavar="[NAME=]PATH",
            shell_complete=paths,
            help="Data set: of the config's set of this name, or of its only one, the path; of a "
            "config that names none, a folder with train/images, train/masks, test/images and "
            "test/masks. May be repeated.",
        ),
        output_option("OUT", "Folder for cells and tables."),
        click.argument("config", shell_complete=study_presets),
    ):
        command = option(command)
    return command


@experiment.command(cls=GroupedCommand)
@_study
def fractions(**options: Any) -> None:
    """How F1 grows with the annotated cells, with and without pseudo labels (Fig. 5).

    \b
    Examples:
      oce2stardist experiment fractions fractions-quick --data bbbc039 -o OUT
      oce2stardist experiment fractions my.yaml -o OUT --dry-run
    """
    _run("fractions", **options)


@experiment.command(cls=GroupedCommand)
@_study
def unsupervised(**options: Any) -> None:
    """Pseudo labels beside pretrained networks and a classical baseline (Table 1).

    \b
    Example:
      oce2stardist experiment unsupervised unsupervised-quick \\
          --data bbbc039 -o OUT
    """
    _run("unsupervised", **options)


@experiment.command(cls=GroupedCommand)
@_study
def scales(**options: Any) -> None:
    """How pseudo labels depend on the scale of the images (Table 2).

    \b
    Example:
      oce2stardist experiment scales scales-quick --data bbbc039 -o OUT
    """
    _run("scales", **options)


@experiment.command(cls=GroupedCommand)
@click.argument("a", shell_complete=paths)
@click.argument("b", shell_complete=paths)
@click.option(
    "-o", "--output", metavar="FILE", shell_complete=paths, help="Also write the comparison as CSV."
)
@prints_json(
    rows="settings that both have, with differences and intervals",
    only_a="settings of A alone",
    only_b="settings of B alone",
    unscored="settings without scores on one side",
)
def compare(a: str, b: str, output: str | None) -> None:
    """Compare two experiments side by side, with bootstrap intervals of what differs.

    A and B are folders of experiments, or their results.csv.

    \b
    Example:
      oce2stardist experiment compare OUT OTHER -o comparison.csv
    """
    from oce2stardist.experiments.compare import compare_results

    comparison = compare_results(Path(a), Path(b))
    tables = ("rows", "only_a", "only_b", "unscored")
    content = {name: getattr(comparison, name).to_dict("records") for name in tables}
    tell(content, comparison.as_text())
    if output is not None:
        comparison.write_csv(Path(output))


def _run(
    study: str,
    *,
    config: str,
    output: str,
    paths: tuple[str, ...],
    seed: int | None,
    dry_run: bool,
    deterministic: bool,
    **options: Any,
) -> None:
    from oce2stardist.experiments.config import STUDIES
    from oce2stardist.experiments.experiment import plan_experiment, run_experiment
    from oce2stardist.presets import find_config

    wanted = STUDIES[study].from_yaml(find_config(config)).with_data_at(paths)
    if seed is not None:
        wanted = wanted.replace(seed=seed)
    if deterministic:
        wanted = wanted.replace(**{"settings.deterministic": True})
    if dry_run:
        _print_plan(plan_experiment(wanted, output))
        return
    command = f"oce2stardist experiment {study}"
    result = run_experiment(wanted, output, command=command, **options)
    unfinished = {
        name: {"status": outcome.status, "reason": outcome.reason}
        for name, outcome in result.unfinished.items()
    }
    tell(
        {
            "planned": None,
            "summary": result.summary.to_dict("records"),
            "answers": result.answers,
            "unfinished": unfinished,
            "report": result.report,
        },
        [
            _table(result.summary),
            *result.answers,
            *(f"{end['status']}: {name}: {end['reason']}" for name, end in unfinished.items()),
            f"Look at {result.report}",
        ],
    )
    if any(outcome.status == "failed" for outcome in result.unfinished.values()):
        raise click.exceptions.Exit(1)


def _print_plan(planned: list[Any]) -> None:
    cells = [{"cell": plan.run.name, "is_finished": plan.is_finished} for plan in planned]
    lines = [f"{cell['cell']:<60} {'finished' * cell['is_finished']}".rstrip() for cell in cells]
    left = sum(not plan.is_finished for plan in planned)
    lines.append(f"{left} of {len(planned)} grid cells would run.")
    nothing = dict.fromkeys(("summary", "answers", "unfinished", "report"))
    tell({"planned": cells, **nothing}, lines)


def _table(summary: Any) -> str:
    """Lay the summary out for the terminal, without columns that say nothing."""
    shown = summary.drop(columns="study").dropna(axis="columns", how="all")
    same = [name for name in ("oracle", "group") if name in shown and shown[name].nunique() == 1]
    text: str = shown.drop(columns=same).to_string(
        index=False, na_rep="-", float_format=lambda value: f"{value:.4g}"
    )
    return text
