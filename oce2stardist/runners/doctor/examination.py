"""All questions asked at once, and their answers put into findings."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oce2stardist.runners.doctor.findings import Finding, Group
from oce2stardist.runners.doctor.installed import (
    PACKAGE,
    Needed,
    base_requirements,
    extras,
    install_command,
    is_installed,
    own_version,
)
from oce2stardist.runners.doctor.machine import Machine, look_at_machine
from oce2stardist.runners.doctor.processes import Failure, ask, broken_modules

_FRAMEWORKS = {
    "torch": ("oce2stardist.embeddings.probe", "describe_torch"),
    "tensorflow": ("oce2stardist.stardist_model.probe", "describe_tensorflow"),
}
_STAGES = {"torch": "pseudo labels", "tensorflow": "StarDist"}
_RUNNERS = tuple(
    f"{PACKAGE}.runners.{name}" for name in ("pseudo", "finetune", "predict", "evaluate", "suggest")
)
"""What the commands load besides the frameworks."""

_PURPOSES = {
    "cellpose": "Cellpose in `experiment unsupervised`",
    "napari": "the napari plugin; it also needs a Qt binding such as pyqt6",
    "slurm": "`experiment ... --slurm`",
    "tensorboard": "`finetune --tensorboard`",
}
"""Of extras, where the name alone does not say it."""

_LITTLE_MEMORY = 3.0
"""Gigabytes: twice what a run on 80 images of 520x696 pixels took (benchmarks/RESULTS.md)."""
_LITTLE_SPACE = 2.0
"""Gigabytes, for embeddings, labels and models of some hundred images."""


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes
    ----------
    version : str
        Of this package.
    machine : Machine
    torch, tensorflow : dict or None
        Version, devices and precision, see `describe_torch`; None where it fails.
    packages : dict of package to version, or None where it is missing
        All that is always needed.
    findings : list of Finding
    """

    version: str
    machine: Machine
    torch: dict[str, Any] | None
    tensorflow: dict[str, Any] | None
    packages: dict[str, str | None]
    findings: list[Finding]

    @property
    def can_run(self) -> bool:
        """Whether images can be turned into pseudo labels and a model, and be predicted."""
        return all(one.status != "broken" for one in self.findings if one.group == "main job")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {"can_run": self.can_run, **asdict(self)}


def examine(folder: Path | None = None) -> Examination:
    """Look at this environment and this machine.

    torch, TensorFlow and every package are loaded in processes of their own: this one imports
    none of them, and one that is broken does not hide another.

    Parameters
    ----------
    folder : Path, optional
        Where runs would be written. Default: the current folder.
    """
    base, optional = base_requirements(), extras()
    ordinary = [one for one in base if one.name not in _FRAMEWORKS]
    machine = look_at_machine(folder or Path.cwd())
    added = [one for needed in optional.values() for one in needed]
    modules = dict.fromkeys((*_RUNNERS, *_modules(ordinary), *_modules(added)))
    with ThreadPoolExecutor(max_workers=machine.processors) as pool:
        asked = {name: pool.submit(ask, *where) for name, where in _FRAMEWORKS.items()}
        others = pool.submit(broken_modules, list(modules))
    answers = {name: one.result() for name, one in asked.items()}
    broken = others.result()
    findings = [_framework(name, answer, base) for name, answer in answers.items()]
    findings.append(_commands(base, broken))
    findings += _describe_machine(machine)
    findings += _describe_packages(ordinary, broken)
    findings += [_extra(name, needed, broken) for name, needed in optional.items()]
    there = {n: None if isinstance(one, Failure) else one for n, one in answers.items()}
    return Examination(
        own_version(),
        machine,
        there["torch"],
        there["tensorflow"],
        {one.name: one.version for one in base},
        findings,
    )


def _modules(needed: Sequence[Needed]) -> list[str]:
    return [module for one in needed for module in one.modules]


def _framework(name: str, answer: dict[str, Any] | Failure, base: list[Needed]) -> Finding:
    title = f"{_STAGES[name]} ({name})"
    own = [one for one in base if one.name == name]
    if isinstance(answer, Failure):
        culprit = _culprit(answer.module, base) or ([] if answer.timed_out else own)
        detail = answer.reason
        if own and own[0].version is None and answer.module == name:
            detail = f"{name} is not installed"
        return Finding("main job", title, "broken", detail, _mend(culprit))
    failing = [one for one in answer["devices"] if one["error"]]
    seen = ", ".join(_say_device(one) for one in answer["devices"])
    detail = f"{answer['version']}, sees {seen}; {answer['precision']} is fastest here"
    if failing:
        chosen_fails = any(one["name"] == answer["chosen"] for one in failing)
        why = "; ".join(f"{one['name']} fails: {one['error']}" for one in failing)
        advice = "; pass --device cpu" if chosen_fails else ""
        return Finding("main job", title, "warning", f"{detail}; {why}{advice}")
    if own and not own[0].fits:
        return _unfit("main job", title, own[0])
    return Finding("main job", title, "ok", detail)


def _say_device(device: Mapping[str, str]) -> str:
    same = device["title"] == device["name"]
    return device["name"] if same else f"{device['name']} ({device['title']})"


def _culprit(module: str | None, base: list[Needed]) -> list[Needed]:
    top = (module or "").split(".")[0]
    return [one for one in base if top in one.modules]


def _mend(culprit: list[Needed]) -> str | None:
    """Install what is missing, or install again what is there and can't be imported."""
    if not culprit:
        return None
    return install_command(culprit, again=all(one.version is not None for one in culprit))


def _commands(base: list[Needed], broken: Mapping[str, str]) -> Finding:
    failed = {module: broken[module] for module in _RUNNERS if module in broken}
    if not failed:
        return Finding("main job", "commands", "ok", "all load")
    first, reason = next(iter(failed.items()))
    culprit = [one for one in base if any(module in broken for module in one.modules)]
    name = first.rsplit(".", 1)[-1]
    return Finding("main job", "commands", "broken", f"{name}: {reason}", _mend(culprit))


def _describe_machine(machine: Machine) -> list[Finding]:
    found = [Finding("machine", "processors", "ok", str(machine.processors))]
    if machine.memory is None or machine.memory_free is None:
        found.append(Finding("machine", "memory", "warning", "unknown: psutil can't be imported"))
    else:
        little = machine.memory_free < _LITTLE_MEMORY
        said = f"{machine.memory:g} GB, {machine.memory_free:g} GB of it free"
        if little:
            said += f"; runs may need {_LITTLE_MEMORY:g}: close other programs"
        found.append(Finding("machine", "memory", "warning" if little else "ok", said))
    said = f"{machine.disk_free:g} GB free in this folder"
    little = machine.disk_free < _LITTLE_SPACE
    if not machine.writable:
        said = "this folder can't be written to: pass an output elsewhere"
    elif little:
        said += ": free some, or pass an output elsewhere"
    poor = little or not machine.writable
    return [*found, Finding("machine", "disk", "warning" if poor else "ok", said)]


def _describe_packages(needed: list[Needed], broken: Mapping[str, str]) -> list[Finding]:
    if not is_installed():
        detail = "is not installed, so nothing says what it needs; in its folder run what mends it"
        return [Finding("packages", PACKAGE, "broken", detail, "pip install .")]
    troubles = [_trouble(one, broken) for one in needed]
    found = [one for one in troubles if one is not None]
    good = len(needed) - len(found)
    if good:
        found.insert(0, Finding("packages", "required", "ok", f"{good} of {len(needed)} fit"))
    return found


def _trouble(one: Needed, broken: Mapping[str, str]) -> Finding | None:
    """Say what is wrong with a required package, if anything is."""
    reasons = [broken[module] for module in one.modules if module in broken]
    if one.version is None and reasons:
        detail, again = "is not installed", False
    elif reasons:
        detail, again = f"{one.version} can't be imported: {reasons[0]}", True
    elif one.fits:
        return None
    else:
        return _unfit("packages", one.name, one)
    return Finding("packages", one.name, "broken", detail, install_command([one], again=again))


def _unfit(group: Group, name: str, one: Needed) -> Finding:
    had = f"has {one.version}" if one.version else "comes from another package"
    detail = f"{had}, made for {one.requirement.specifier}"
    return Finding(group, name, "warning", detail, install_command([one]))


def _extra(name: str, needed: list[Needed], broken: Mapping[str, str]) -> Finding:
    purpose = f"for {_PURPOSES[name]}: " if name in _PURPOSES else ""
    missing = [one for one in needed if one.version is None]
    unusable = {
        one.name: next(broken[module] for module in one.modules if module in broken)
        for one in needed
        if one.version is not None and any(module in broken for module in one.modules)
    }
    unfit = [one for one in needed if one.version is not None and not one.fits]
    if missing:
        names = ", ".join(one.name for one in missing)
        detail = f"{purpose}{names} {'is' if len(missing) == 1 else 'are'} not installed"
        return Finding("extras", name, "optional", detail, install_command(needed))
    if unusable:
        first, reason = next(iter(unusable.items()))
        again = [one for one in needed if one.name in unusable]
        detail = f"{purpose}{first} can't be imported: {reason}"
        return Finding("extras", name, "warning", detail, install_command(again, again=True))
    if unfit:
        said = "; ".join(
            f"{one.name} has {one.version}, made for {one.requirement.specifier}" for one in unfit
        )
        return Finding("extras", name, "warning", purpose + said, install_command(unfit))
    versions = ", ".join(f"{one.name} {one.version}" for one in needed)
    return Finding("extras", name, "ok", purpose + versions)
