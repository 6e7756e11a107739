"""Look at this machine and environment: what works, what does not, and the command that fixes it.

What is needed is read from the package's own metadata, so that a new dependency or extra is
checked without a line of code here. Everything is imported in processes of its own: what breaks
there ends only that, and hides nothing else.
"""

import importlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from getpass import getuser
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from shlex import quote
from typing import Any, Literal, get_args

import click
from packaging.requirements import Requirement

from oce2stardist.errors import kept_torch

_PACKAGE = "oce2stardist"
_FOR_DEVELOPERS = {"test", "dev", "docs"}  # extras that add nothing to the program
_PURPOSES = {  # of extras, where the name alone does not say it
    "cellpose": "Cellpose in `experiment unsupervised`",
    "microscope": "CZI, LIF and ND2",
    "napari": "the napari plugin; it also needs a Qt binding such as pyqt6",
    "slurm": "`experiment ... --slurm`",
    "tensorboard": "`finetune --tensorboard`",
}

_PROBES = {
    "torch": ("pseudo labels", "oce2stardist.embeddings.probe", "describe_torch"),
    "tensorflow": ("StarDist", "oce2stardist.stardist_model.probe", "describe_tensorflow"),
}
"""What needs the framework, and the function that computes once with it on every device."""

_LONGEST = 300.0  # seconds to wait; a first import from a network drive takes a minute

Status = Literal["ok", "optional", "warning", "broken"]
"""optional: not there, and needed only for what the finding names; broken: nothing runs."""

Group = Literal["main job", "machine", "packages", "extras"]
_COLOURS = {"ok": "green", "optional": "cyan", "warning": "yellow", "broken": "red"}


@dataclass(frozen=True)
class Finding:
    """What came of looking at one thing, and the command that fixes it."""

    group: Group
    name: str
    status: Status
    detail: str
    fix: str | None = None


@dataclass(frozen=True)
class Machine:
    """This machine, and the folder that it was looked at from; sizes in gigabytes."""

    system: str
    python: str
    processors: int  # that this process may use
    memory: float | None  # None where psutil can't tell
    memory_free: float | None
    disk_free: float
    writable: bool


@dataclass(frozen=True)
class Examination:
    """All that was found."""

    version: str
    machine: Machine
    torch: dict[str, Any] | None  # version, devices and precision; None where it fails
    tensorflow: dict[str, Any] | None
    packages: dict[str, str | None]  # that are always needed, with the version installed
    findings: list[Finding]

    @property
    def can_run(self) -> bool:
        """Whether images can be turned into pseudo labels and a model, and be predicted."""
        return all(finding.status != "broken" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {"can_run": self.can_run, **asdict(self)}


def examine() -> Examination:
    """Look at this environment, this machine and the current folder."""
    package, base, optional = _find(_PACKAGE), requirements(), extras()
    ordinary = [needed for needed in base if needed.name not in _PROBES]
    machine = look_at_machine(Path.cwd())
    imported = chain(ordinary, *optional.values())
    modules = dict.fromkeys(chain.from_iterable(needed.modules for needed in imported))
    with ThreadPoolExecutor(max_workers=machine.processors) as pool:
        asked = {name: pool.submit(ask, *where) for name, (_, *where) in _PROBES.items()}
        others = pool.submit(broken_modules, list(modules))
    answers = {name: answer.result() for name, answer in asked.items()}
    broken = others.result()
    torch, tensorflow = (None if "error" in answer else answer for answer in answers.values())
    room = f"{machine.disk_free:g} GB free"
    folder = Finding("machine", "this folder", "ok", room)
    if not machine.writable:
        read_only = "can't be written to: pass an output elsewhere"
        folder = Finding("machine", "this folder", "warning", read_only)
    frameworks = [_framework(name, answer, base) for name, answer in answers.items()]
    of_extras = [_extra(name, needed, broken) for name, needed in optional.items()]
    return Examination(
        package.version if package else "not installed",
        machine,
        torch,
        tensorflow,
        {needed.name: needed.version for needed in base},
        [*frameworks, folder, *_required(ordinary, broken), *of_extras],
    )


def _framework(name: str, answer: dict[str, Any], base: "list[Needed]") -> Finding:
    title = f"{_PROBES[name][0]} ({name})"
    own = [needed for needed in base if needed.name == name]
    if "error" in answer:
        top = (answer["module"] or "").split(".")[0]
        culprit = [needed for needed in base if top in needed.modules]
        culprit = culprit or ([] if "timed_out" in answer else own)
        again = all(needed.is_damaged(answer["error"]) for needed in culprit)
        fix = install_command(culprit, again=again) if culprit else None
        return Finding("main job", title, "broken", answer["error"], fix)
    titles = {device["name"]: device["title"] for device in answer["devices"]}
    seen = ", ".join(n if n == full else f"{n} ({full})" for n, full in titles.items())
    detail = f"{answer['version']}, sees {seen}; {answer['precision']} is fastest here"
    failing = {device["name"]: device["error"] for device in answer["devices"] if device["error"]}
    if failing:
        why = "; ".join(f"{device} fails: {error}" for device, error in failing.items())
        advice = "; pass --device cpu" if answer["chosen"] in failing else ""
        return Finding("main job", title, "warning", f"{detail}; {why}{advice}")
    unfit = own[0].trouble({}) if own else None
    if unfit:
        return Finding("main job", title, "warning", unfit, install_command(own))
    return Finding("main job", title, "ok", detail)


def _required(required: "list[Needed]", broken: Mapping[str, str]) -> list[Finding]:
    if not required:
        detail = "is not installed, so nothing says what it needs; in its folder, run the fix"
        return [
            Finding("packages", _PACKAGE, "warning", detail, "pip install -c constraints.txt .")
        ]
    findings = [Finding("packages", "required", "ok", f"{len(required)} looked at")]
    for needed in required:
        if trouble := needed.trouble(broken):
            reason = needed.reason(broken)
            fix = install_command([needed], again=needed.is_damaged(reason))
            status: Status = "broken" if reason else "warning"
            findings.append(Finding("packages", needed.name, status, trouble, fix))
    return findings


def _extra(name: str, required: "list[Needed]", broken: Mapping[str, str]) -> Finding:
    purpose = f"for {_PURPOSES[name]}: " if name in _PURPOSES else ""
    poor = [needed for needed in required if needed.trouble(broken)]
    if not poor:
        versions = ", ".join(f"{needed.name} {needed.version}" for needed in required)
        return Finding("extras", name, "ok", purpose + versions)
    status: Status = "optional" if any(needed.version is None for needed in poor) else "warning"
    again = status == "warning" and any(needed.is_damaged(needed.reason(broken)) for needed in poor)
    detail = purpose + "; ".join(f"{needed.name} {needed.trouble(broken)}" for needed in poor)
    return Finding("extras", name, status, detail, install_command(poor, again=again))


def look_at_machine(folder: Path) -> Machine:
    """Look at this machine, and at the disk that holds `folder`."""
    try:  # a package that is missing is for this command to report, not to fail on
        memory = importlib.import_module("psutil").virtual_memory()
    except ImportError:
        memory = None
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return Machine(
        system=platform.platform(),
        python=platform.python_version(),
        processors=len(affinity(0)) if affinity else os.cpu_count() or 1,
        memory=round(memory.total / 1e9, 1) if memory else None,
        memory_free=round(memory.available / 1e9, 1) if memory else None,
        disk_free=round(shutil.disk_usage(folder).free / 1e9, 1),
        writable=os.access(folder, os.W_OK),
    )


# --- what the metadata say


@dataclass(frozen=True)
class Needed:
    """A requirement, the version installed of it, and the modules that show whether it works."""

    requirement: Requirement
    version: str | None
    modules: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the package."""
        return self.requirement.name

    def reason(self, broken: Mapping[str, str]) -> str | None:
        """Why it can't be imported, if so."""
        return next((broken[module] for module in self.modules if module in broken), None)

    def is_damaged(self, reason: str | None) -> bool:
        """Tell whether its own files are the reason, and not a package that it lacks."""
        lacks = re.search(r"No module named '([^'.]+)", reason or "")
        own = lacks is None or lacks[1] in self.modules
        return bool(reason) and self.version is not None and own

    def trouble(self, broken: Mapping[str, str]) -> str | None:
        """Say what is wrong with it, if anything is."""
        reason = self.reason(broken)
        if self.version is None:
            return "is not installed" if reason else "comes from another package"
        if reason:
            return f"{self.version} can't be imported: {reason}"
        wanted = self.requirement.specifier
        if wanted.contains(self.version, prereleases=True):
            return None
        build = "; https://pytorch.org/get-started has newer ones" if "+" in self.version else ""
        return f"has {self.version}, made for {wanted}{build}"


def requirements(extra: str = "") -> list[Needed]:
    """List what is always needed, or what an extra adds; extras that name extras are resolved."""
    package = _find(_PACKAGE)
    needed: list[Needed] = []
    for requirement in map(Requirement, (package.requires or []) if package else []):
        marker = requirement.marker
        holds, always = (marker is None or marker.evaluate({"extra": name}) for name in (extra, ""))
        if not holds or (extra and always):
            continue
        if requirement.name == _PACKAGE:
            needed += chain.from_iterable(map(requirements, sorted(requirement.extras)))
        else:
            requirement.marker = None
            needed.append(_look_up(requirement))
    return needed


def extras() -> dict[str, list[Needed]]:
    """List what every extra needs, but for those that only developers of this package want."""
    package = _find(_PACKAGE)
    names = (package.metadata.get_all("Provides-Extra") or []) if package else []
    return {name: requirements(name) for name in names if name not in _FOR_DEVELOPERS}


def install_command(needed: list[Needed], *, again: bool = False) -> str | None:
    """Give the command that installs requirements here; `again` what is there and damaged, too.

    A build of torch such as 2.9+cpu stays what it is (`kept_torch`). Where it is what is needed
    and has the wrong version there is no command: a package index may not offer such builds.
    """
    python = quote(sys.executable)
    words = [f"{python} -m pip" if find_spec("pip") else f"pip --python {python}", "install"]
    if again:
        words += ["--force-reinstall", "--no-deps"]
    elif all(package.name != "torch" for package in needed):
        words += kept_torch()
    wanted = []
    for package in needed:
        if "+" not in (package.version or ""):
            wanted.append(quote(str(package.requirement)))
        elif package.trouble({}):
            return None
        else:
            wanted.append(quote(f"{package.name}=={package.version}"))
    return " ".join([*words, *sorted(wanted)])


def _find(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _look_up(requirement: Requirement) -> Needed:
    """Find what is installed, and its module called like the package, or all that it brings."""
    package = _find(requirement.name)
    own = requirement.name.replace("-", "_")
    if package is None:  # the module may still be there: tensorflow-cpu brings tensorflow
        return Needed(requirement, None, (own,))
    brought = set((package.read_text("top_level.txt") or "").split()) or {
        path.parts[0].removesuffix(".py") for path in package.files or () if path.suffix == ".py"
    }
    public = sorted(name for name in brought if name.isidentifier() and name[0] != "_")
    like = [name for name in public if name.lower() == own.split(".")[0].lower()]
    if like:
        public = [own] if "." in own else like
    return Needed(requirement, package.version, tuple(public) or (own,))


# --- processes of their own

_PROGRAM = """\
import json, sys
path, module, function, arguments = json.loads(sys.argv[1])
sys.path[:] = path
try:
    from importlib import import_module
    answer = getattr(import_module(module), function)(*arguments)
except BaseException as error:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    answer = {"error": reason, "module": getattr(error, "name", None)}
print()
print(json.dumps(answer))
"""


def ask(module: str, function: str, *arguments: Any) -> dict[str, Any]:
    """Call a function that returns a dict, in a new process that imports from where this one does.

    Where that fails, the dict holds `error`, in one line, and `module`, the one that could not be
    imported, if any.
    """
    question = json.dumps([sys.path, module, function, arguments])
    command = [sys.executable, "-c", _PROGRAM, question]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        why = f"no answer within {_LONGEST:.0f} seconds; is the machine busy? Try again later"
        return {"error": why, "module": None, "timed_out": True}
    if code := done.returncode:
        end = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return {"error": f"its process ended with {end}", "module": None}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def broken_modules(modules: Sequence[str]) -> dict[str, str]:
    """Import modules in new processes, so that none hides another; say why some can't be."""
    answer = ask(__name__, import_each.__name__, list(modules))
    if "broken" in answer:
        return dict(answer["broken"])
    if len(modules) == 1 or "timed_out" in answer:
        return dict.fromkeys(modules, answer["error"])
    return {name: why for module in modules for name, why in broken_modules([module]).items()}


def import_each(modules: Sequence[str]) -> dict[str, dict[str, str]]:
    """Import modules here; say, under `broken`, why some can't be."""
    broken = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a package raises: it can't be used
            broken[module] = " ".join(f"{type(error).__name__}: {error}".split())
    return {"broken": broken}


def say_findings(examination: Examination) -> list[str]:
    """Write what people read at the prompt."""
    machine, findings = examination.machine, examination.findings
    lines = [f"oce2stardist {examination.version}, Python {machine.python}, {machine.system}"]
    for group in get_args(Group):
        lines += ["", click.style(group.capitalize(), bold=True)]
        for finding in (finding for finding in findings if finding.group == group):
            status = click.style(f"{finding.status:<8}", fg=_COLOURS[finding.status])
            lines.append(f"  {status}  {finding.name}: {finding.detail}")
            lines += [f"            fix: {finding.fix}"] if finding.fix else []
    verdict = "Everything that is installed works."
    if any(finding.status == "warning" for finding in findings):
        verdict = "The main job can run; look at what is marked."
    if not examination.can_run:
        verdict = "The main job can't run: fix what is marked broken."
    return [*lines, "", verdict]


def write_bug_report(examination: Examination) -> list[str]:
    """Write Markdown that says what a maintainer asks for first, without names of people."""
    machine = examination.machine
    lines = [
        *("### Environment", "", "```"),
        *(click.unstyle(line) for line in say_findings(examination)),
        "",
        f"{machine.processors} processors, {machine.memory or '?'} GB memory, "
        f"{machine.disk_free} GB disk free",
        *(f"{name:<13} {version or 'missing'}" for name, version in examination.packages.items()),
        *("```", "", "### What I did, what I expected, what happened", ""),
    ]
    return [_anonymous(line) for line in lines]


def _anonymous(line: str) -> str:
    """Take home folder, user and host out of a line: errors may name them."""
    try:
        user = getuser()
    except (KeyError, OSError):  # a container's user has no name
        user = ""
    line = line.replace(str(Path.home()), "~") if len(str(Path.home())) > 1 else line
    # The longer name of the host first: it begins with the shorter one.
    hidden = {socket.getfqdn(): "HOST", socket.gethostname(): "HOST", user: "USER"}
    for name, instead in hidden.items():
        if len(name) > 1:
            line = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", instead, line)
    return line
