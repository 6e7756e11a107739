"""Help whose options stand in groups with a name, those that few people need last."""

import click

_OPTIONS = "Options"
_GROUPS = {
    "Which of the annotated cells": ("fraction", "cells", "per_image", "use_cells", "zero"),
    "How it runs": ("config_file", "seed", "device", "deterministic", "overwrite", "tensorboard"),
    "What is printed": ("verbose", "quiet", "json", "log_file"),
    "Images larger than memory, and clusters": (
        *("in_place", "blocks_above", "side", "workers", "threads", "scheduler", "slurm"),
    ),
}
"""Names of groups, and of the parameters in them; all others stand first."""


def group_options(command: click.Command, ctx: click.Context) -> dict[str, list[click.Option]]:
    """Sort the options of a command into the groups that it has something of."""
    groups: dict[str, list[click.Option]] = {name: [] for name in (_OPTIONS, *_GROUPS)}
    of_name = {option: name for name, options in _GROUPS.items() for option in options}
    for option in command.get_params(ctx):
        if isinstance(option, click.Option):
            groups[of_name.get(option.name or "", _OPTIONS)].append(option)
    return {name: options for name, options in groups.items() if options}


class GroupedCommand(click.Command):
    """A command whose --help shows its options in named groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a list for each group."""
        for name, options in group_options(self, ctx).items():
            records = [record for one in options if (record := one.get_help_record(ctx))]
            with formatter.section(name):
                formatter.write_dl(records)
