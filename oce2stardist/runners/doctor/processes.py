"""Questions that are asked in a process of their own, so that what breaks there ends only that."""

import importlib
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_LONGEST = 300.0
"""Seconds to wait; a first import from a network drive takes a minute."""

_PROGRAM = """\
import json, sys
path, module, function, arguments = json.loads(sys.argv[1])
sys.path[:] = path
try:
    from importlib import import_module
    answer = {"answer": getattr(import_module(module), function)(*arguments)}
except BaseException as error:
    answer = {"error": f"{type(error).__name__}: {error}", "module": getattr(error, "name", None)}
print()
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class Failure:
    """Why there is no answer, in one line, and the module that could not be imported, if any."""

    reason: str
    module: str | None = None
    timed_out: bool = False


def ask(module: str, function: str, *arguments: Any) -> dict[str, Any] | Failure:
    """Call a function in a new process; arguments and the dict that it returns go as JSON.

    The process imports from where this one does.
    """
    question = json.dumps([sys.path, module, function, arguments])
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, question],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        why = f"no answer within {_LONGEST:.0f} seconds; is the machine busy? Try again later"
        return Failure(why, timed_out=True)
    if done.returncode != 0:
        return Failure(f"its process ended with {_say_code(done.returncode)}")
    said = json.loads(done.stdout.splitlines()[-1])
    if "error" in said:
        return Failure(" ".join(said["error"].split()), said["module"])
    answer: dict[str, Any] = said["answer"]
    return answer


def broken_modules(modules: Sequence[str]) -> dict[str, str]:
    """Import modules in a new process.

    Returns
    -------
    dict of module to the reason in one line
        Those that can't be imported. One that takes the whole process down does not hide
        the others.
    """
    answer = ask(__name__, import_each.__name__, list(modules)) if modules else {}
    if not isinstance(answer, Failure):
        return answer
    if len(modules) == 1 or answer.timed_out:
        return dict.fromkeys(modules, answer.reason)
    return {name: why for one in modules for name, why in broken_modules([one]).items()}


def import_each(modules: Sequence[str]) -> dict[str, str]:
    """Import modules here; returns why those can't be imported that can't."""
    broken = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a package raises: it can't be used
            broken[module] = " ".join(f"{type(error).__name__}: {error}".split())
    return broken


def _say_code(code: int) -> str:
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
