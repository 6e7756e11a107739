"""The command `oce2stardist doctor`."""

import click

from .grouping import GroupedCommand
from .results import prints_json, tell


@click.command(cls=GroupedCommand)
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
    findings="a list of group, name, status (ok, optional, warning, broken), detail, fix",
)
def doctor(bug_report: bool) -> None:
    """Check that everything works here, and say how to fix what does not.

    torch and TensorFlow are each tried in a process of their own, on every device that they
    see. Extras are those of the installed version. Each fix is one command, to be
    pasted as it stands. The exit code is 1 if pseudo labels, training or prediction can't
    run, else 0.

    \b
    Examples:
      oce2stardist doctor
      oce2stardist doctor --json
      oce2stardist doctor --bug-report > report.md
    """
    from oce2stardist.doctor import examine, say_findings, write_bug_report

    found = examine()
    tell(found.to_dict(), write_bug_report(found) if bug_report else say_findings(found))
    if not found.can_run:
        raise click.exceptions.Exit(1)
