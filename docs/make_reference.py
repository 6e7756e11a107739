"""Write docs/reference/: the commands from click, the settings from the pydantic models."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
import yaml
from oce2stardist.cli.grouping import group_options
from oce2stardist.cli.main import main
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from oce2stardist.config import Config, Settings
from oce2stardist.experiments.config import STUDIES, DataConfig
from oce2stardist.presets import find_config

FOLDER = Path(__file__).parent / "reference"
PRESETS = ("quick", "paper")
"""Beside `fast`, which is the default of every setting."""

NOT_RUN = {
    "usage": "how the command is called",
    "shells": "changes the shell that it is given to; tests/cli/test_help.py asks for the scripts",
    "oce2stardist demo": "takes minutes; tests/runners/test_pipeline.py takes few steps",
}
"""Why tests/docs/test_docs_code.py does not run a block."""

USUAL = {
    "seed": ("--seed", "you want another draw of everything that is random"),
    "device": ("--device", "the GPU is busy, or fails"),
    "embedding.steps": ("pseudo --steps", "pseudo labels are poor: train longer"),
    "pseudo.channels": ("", "stains or channels are not separated as you want"),
    "pseudo.bandwidth": ("", "cells are split (larger) or merged (smaller)"),
    "pseudo.min_unity": ("", "cells that touch are joined: 1 joins nothing"),
    "pseudo.level": ("", "outlines are too small (lower) or too large (higher)"),
    "pseudo.min_size": ("", "debris is found (larger), or small cells are lost (smaller)"),
    "stardist.alpha": ("finetune --alpha", "pseudo labels are to count less, or not at all (0)"),
    "stardist.steps": ("finetune --steps", "the model is not good enough: train longer"),
}
"""Settings that people change: the option that does the same, and when. Pictures of most of it are
in docs/by-picture.md."""

_MADE = "<!-- Written by docs/make_reference.py; change the code, not this file. -->"


def make_reference() -> dict[str, str]:
    """Return the content of every file by its name."""
    return {"commands.md": _commands(), "configuration.md": _configuration()}


# --- commands


def _commands() -> str:
    parts = [_MADE, "# Commands"]
    for path, command in _walk(main, "oce2stardist"):
        parts += _describe_command(path, command)
    return "\n\n".join(parts) + "\n"


def _walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _walk(inner, f"{path} {name}")


def _describe_command(path: str, command: click.Command) -> list[str]:
    # The usage line is laid out by click, at the width of a terminal.
    context = click.Context(command, info_name=path, terminal_width=80)
    usage = command.get_usage(context).removeprefix("Usage: ")
    parts = [f"## {path}", _block(usage, mark="usage"), *_paragraphs(command.help or "", path)]
    for name, options in group_options(command, context).items():
        rows = [_option_row(one, context) for one in options if one in command.params]
        if rows:
            parts.append("\n".join([f"| {name.lower()} | meaning |", "|---|---|", *rows]))
    return parts


def _option_row(option: Any, context: click.Context) -> str:
    names, meaning = option.get_help_record(context)
    return f"| `{_cell(names)}` | {_cell(meaning)} |"


def _paragraphs(text: str, path: str) -> Iterator[str]:
    r"""Turn help text into Markdown; what follows ``\b`` is kept as it stands."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if not paragraph.startswith("\b"):
            yield " ".join(paragraph.split())
            continue
        title, _, rest = paragraph.removeprefix("\b").strip("\n").partition("\n")
        if title.startswith("Example"):
            yield title
            yield _block(_without_indent(rest), language="bash", mark=path)
        elif title.endswith(":"):
            yield title
            yield _block(_without_indent(rest), mark="shells")
        else:
            yield _block(f"{title}\n{rest}", language="bash")


def _without_indent(text: str) -> str:
    return "\n".join(line.removeprefix("  ") for line in text.splitlines())


def _block(text: str, *, language: str = "text", mark: str = "") -> str:
    reason = f"<!-- not run: {NOT_RUN[mark]} -->\n" if mark in NOT_RUN else ""
    return f"{reason}```{language}\n{text.strip()}\n```"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


# --- configuration


def _configuration() -> str:
    parts = [
        _MADE,
        "# Configuration",
        "`--config FILE` reads settings from YAML. A file names only what it changes:",
        '```yaml title="my.yaml"\npseudo:\n  level: 0.3\nstardist:\n  steps: 1500\n```',
        "`configs/fast.yaml` lists all settings. In messages and in Python a setting is named with "
        "its section: `stardist.alpha`.",
        "## The ten that people change",
        "All others are for those who know the methods. An option of a command does the same as "
        "its setting.",
        "\n".join(["| setting | option | change it when |", "|---|---|---|", *_usual()]),
    ]
    parts += _section("A run", "", Config, Config())
    for name, field in Config.model_fields.items():
        if _is_section(field):
            parts += _section(f"{name}", f"{name}.", type(field.default), field.default)
    parts += ["## Experiments", "What `oce2stardist experiment STUDY CONFIG` reads."]
    for name, study in STUDIES.items():
        parts += _section(name, None, study, study())
    parts += _section("data", None, DataConfig, None)
    return "\n\n".join(parts) + "\n"


def _usual() -> Iterator[str]:
    for name, (option, when) in USUAL.items():
        section, _, key = name.rpartition(".")
        home = Config.model_fields[section].default if section else Config()
        assert key in type(home).model_fields, name
        yield f"| `{name}` | {f'`{option}`' if option else ''} | {when} |"


def _section(
    title: str, prefix: str | None, model: type[Settings], default: Settings | None
) -> list[str]:
    """Describe one model; prefix None: one that the presets say nothing about."""
    compared = PRESETS if prefix is not None else ()
    head = ["setting", "values", "default", *compared, "meaning"]
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    presets = {name: _flat(_preset(name)) for name in compared}
    for name, field in model.model_fields.items():
        if _is_section(field) and prefix is not None:
            continue
        usual = _yaml(getattr(default, name)) if default is not None else _default(field)
        others = [presets[preset].get(f"{prefix}{name}", usual) for preset in compared]
        shown = [usual, *("" if other == usual else f"`{other}`" for other in others)]
        shown[0] = f"`{usual}`" if usual else ""
        if _is_section(field):
            shown[0] = ""
        cells = [f"`{name}`", _values(field), *shown, field.description or ""]
        rows.append(f"| {' | '.join(map(_cell, cells))} |")
    return [f"## {title}", " ".join((model.__doc__ or "").split()), "\n".join(rows)]


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.default, Settings)


def _preset(name: str) -> dict[str, Any]:
    return Config.from_yaml(find_config(name)).model_dump(mode="json")


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _yaml(value)
    return flat


def _default(field: FieldInfo) -> str:
    return "" if field.default is PydanticUndefined else _yaml(field.default)


def _yaml(value: Any) -> str:
    """Write a value as it stands in a config file."""
    if value is None:
        return "empty"
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, Settings):
        return ""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")


def _values(field: FieldInfo) -> str:
    """Say which values a setting takes."""
    if _is_section(field):
        return "a run's settings"
    said = _say_type(field.annotation)
    bounds = [_say_bound(one) for one in field.metadata]
    return ", ".join([said, *(bound for bound in bounds if bound)])


def _say_type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if annotation is type(None):
        return "empty"
    if hasattr(annotation, "__metadata__"):  # Annotated
        bounds = (
            _say_bound(one)
            for part in annotation.__metadata__
            for one in getattr(part, "metadata", ())
        )
        return ", ".join([_say_type(annotation.__origin__), *filter(None, bounds)])
    if origin is tuple:
        return f"list of {_say_type(arguments[0])}s"
    if origin is dict:
        return "mapping"
    if arguments:
        return " or ".join(_say_type(one) for one in arguments)
    if annotation is DataConfig:
        return "data set"
    return {bool: "true or false", int: "integer", float: "number", str: "text"}[annotation]


def _say_bound(bound: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}
    for name, sign in signs.items():
        if hasattr(bound, name):
            return f"{sign} {getattr(bound, name):g}" if name != "lt" else f"< {bound.lt:,}"
    return ""


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in make_reference().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
