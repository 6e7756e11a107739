"""One thing that was looked at: how it is, and the command that mends it."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "optional", "warning", "broken"]
"""optional: not there, and only needed for what the finding names; broken: something that the
program always needs fails."""


@dataclass(frozen=True)
class Finding:
    """Attributes.

    Attributes
    ----------
    group : {"main job", "machine", "packages", "extras"}
    name : str
    status : Status
    detail : str
        What was found, in one line.
    mend : str or None
        The command that mends it, where it needs mending and a command can.
    """

    group: Literal["main job", "machine", "packages", "extras"]
    name: str
    status: Status
    detail: str
    mend: str | None = None
