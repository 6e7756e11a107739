"""What a command prints when it is done: lines for people, or one JSON object for programs."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_META = "oce2stardist.json_keys"


def prints_json(**keys: str) -> Callable[[Command], Command]:
    """Add --json, whose help lists the keys of the object and what they mean."""
    listed = ", ".join(f"{key} ({meaning})" for key, meaning in keys.items())

    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        ctx.meta[_META] = (value, frozenset(keys))

    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=remember,
        help=f"Print one JSON object to standard output instead. Keys: {listed}.",
    )


def wants_json() -> bool:
    """Tell whether the running command was given --json."""
    wanted: bool = click.get_current_context().meta[_META][0]
    return wanted


def tell(content: Mapping[str, Any], lines: str | Sequence[str]) -> None:
    """Print the result of a command to standard output; progress goes to standard error.

    Parameters
    ----------
    content : mapping
        With the keys that `prints_json` was given.
    lines : str or sequence of str
        What people read.
    """
    keys = click.get_current_context().meta[_META][1]
    assert set(content) == keys, f"--json documents {sorted(keys)}, prints {sorted(content)}"
    if wants_json():
        click.echo(json.dumps(_plain(content), allow_nan=False))
        return
    for line in [lines] if isinstance(lines, str) else lines:
        click.echo(line)


def _plain(value: Any) -> Any:
    """Turn paths, NumPy numbers and tuples into what JSON has; what is not a number into null."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
