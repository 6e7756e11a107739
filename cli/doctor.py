"""The command `oce2stardist doctor`."""

import re
import socket
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .results import prints_json, tell

if TYPE_CHECKING:
    from oce2stardist.runners.doctor import Examination, Finding

_GROUPS = ("main job", "machine", "packages", "extras")
_COLOURS = {"ok": "green", "optional": "cyan", "warning": "yellow", "broken": "red"}


@click.command()
@click.option(
    "--bug-report",
    is_flag=True,
    help="Print a block to paste into a bug report, without names of people, hosts or home "
    "folders.",
)
@prints_json(
    can_run="whether the main job can run",
    version="of oce2stardist",
    machine="system, python, processors, memory, memory_free, disk_free (GB), writable",
    torch="version, devices, chosen, precision; null where it fails",
    tensorflow="the same",
    packages="versions by name, null where missing",
    findings="a list of group, name, status (ok, optional, warning, broken), detail, mend",
)
def doctor(bug_report: bool) -> None:
    """Check that everything works here, and say what mends what does not.

    torch and TensorFlow are each tried in a process of their own, on every device that they
    see. Extras are those of the installed version. What mends a gap is one command, to be
    pasted as it stands. The exit code is 1 if pseudo labels, training or prediction can't
    run, else 0.

    \b
    Examples:
      oce2stardist doctor
      oce2stardist doctor --json
      oce2stardist doctor --bug-report > report.md
    """
    from oce2stardist.runners.doctor import examine

    found = examine()
    tell(found.to_dict(), _bug_report(found) if bug_report else _for_people(found))
    if not found.can_run:
        raise click.exceptions.Exit(1)


def _for_people(found: "Examination") -> list[str]:
    lines = [f"oce2stardist {found.version}, Python {found.machine.python}, {found.machine.system}"]
    for group in _GROUPS:
        lines += ["", click.style(f"{group[0].upper()}{group[1:]}", bold=True)]
        for one in found.findings:
            if one.group == group:
                lines += _say(one)
    lines += ["", _verdict(found)]
    return lines


def _say(one: "Finding") -> list[str]:
    status = click.style(f"{one.status:<8}", fg=_COLOURS[one.status])
    lines = [f"  {status}  {one.name}: {one.detail}"]
    return lines + ([f"            mend: {one.mend}"] if one.mend else [])


def _verdict(found: "Examination") -> str:
    if not found.can_run:
        return "The main job can't run: mend what is marked broken."
    if any(one.status in ("broken", "warning") for one in found.findings):
        return "The main job can run; look at what is marked."
    return "Everything that is installed works."


def _bug_report(found: "Examination") -> list[str]:
    """Write Markdown that says what a maintainer asks for first."""
    machine = found.machine
    lines = [
        "### Environment",
        "",
        "```",
        f"oce2stardist  {found.version}",
        f"python        {machine.python}",
        f"system        {machine.system}",
        f"machine       {machine.processors} processors, {machine.memory or '?'} GB memory, "
        f"{machine.disk_free} GB disk free",
    ]
    lines += [f"{name:<13} {version or 'missing'}" for name, version in found.packages.items()]
    lines += [f"{one.status}: {one.name}: {one.detail}" for one in found.findings]
    lines += ["```", "", "### What I did, what I expected, what happened", ""]
    return [_anonymous(line) for line in lines]


def _anonymous(line: str) -> str:
    """Take home folder, user and host out of a line: errors may name them."""
    line = line.replace(str(Path.home()), "~") if len(str(Path.home())) > 1 else line
    # The longer name of the host first: it begins with the shorter one.
    hidden = {socket.getfqdn(): "HOST", socket.gethostname(): "HOST", _user(): "USER"}
    for name, instead in hidden.items():
        if len(name) > 1:
            line = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", instead, line)
    return line


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # a container's user has no name
        return ""
