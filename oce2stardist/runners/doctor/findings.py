"""One thing that was looked at: how it is, and the command that mends it."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "optional", "warning", "broken"]
"""optional: not there, and only needed for what the finding names; broken: something that the
program always needs fails."""


Group = Literal["main job", "machine", "packages", "extras"]
"""main job: images to pseudo labels, a model, and predictions."""


@dataclass(frozen=True)
class Finding:
    """What came of looking at one thing.

    Attributes
    ----------
    group : Group
    name : str
    status : Status
    detail : str
        What was found, in one line.
    mend : str or None
        The command that mends it, where it needs mending and a command can.
    """

    group: Group
    name: str
    status: Status
    detail: str
    mend: str | None = None
