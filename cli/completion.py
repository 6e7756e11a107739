"""What the shell completes for arguments that are not a list of words: files, folders, presets."""

import click
from click.shell_completion import CompletionItem


def paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete files and folders."""
    return [CompletionItem(incomplete, type="file")]


def folders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete folders."""
    return [CompletionItem(incomplete, type="dir")]


def presets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """List the presets of a run, and let the shell complete files where none fits."""
    return _presets_of(None, incomplete)


def study_presets(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """List the presets of the study that is being typed."""
    return _presets_of(ctx.info_name, incomplete)


def _presets_of(study: str | None, incomplete: str) -> list[CompletionItem]:
    from oce2stardist.presets import FOLDER

    names = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    fitting = [name for name in names if _study(name) == study and name.startswith(incomplete)]
    return [CompletionItem(name) for name in fitting] or [CompletionItem(incomplete, type="file")]


def _study(preset: str) -> str | None:
    """Name the study that a preset is for; None for presets of a run."""
    name = preset.removesuffix("-quick")
    return name if name in ("fractions", "unsupervised", "scales") else None
