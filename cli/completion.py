"""What the shell completes for arguments that are not a list of words: files, folders, presets."""

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete files and folders."""
    return [CompletionItem(incomplete, type="file")]


def folders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete folders."""
    return [CompletionItem(incomplete, type="dir")]


def presets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """List the presets of a run, and let the shell complete files where none fits."""
    return _presets(incomplete, ctx, lambda names: [n for n in names if not _study(n)])


def study_presets(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """List the presets of the study that is being typed."""
    wanted = ctx.info_name or ""
    return _presets(incomplete, ctx, lambda names: [n for n in names if _study(n) == wanted])


def _presets(
    incomplete: str, ctx: click.Context, choose: Callable[[list[str]], list[str]]
) -> list[CompletionItem]:
    from oce2stardist.presets import FOLDER

    names = choose(sorted(path.stem for path in FOLDER.glob("*.yaml")))
    fitting: list[Any] = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return fitting or [CompletionItem(incomplete, type="file")]


def _study(preset: str) -> str | None:
    """Name the study that a preset is for; None for presets of a run."""
    name = preset.removesuffix("-quick")
    return name if name in ("fractions", "unsupervised", "scales") else None
