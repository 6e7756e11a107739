"""What the installed package says that it needs, and how much of that is there.

Read from the package's own metadata, so that a new dependency or extra is checked without a
line of code here.
"""

import re
import sys
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from shlex import quote

from packaging.requirements import Requirement

PACKAGE = "oce2stardist"

_FOR_DEVELOPERS = {"test", "dev", "docs"}
"""Extras that add nothing to the program."""


@dataclass(frozen=True)
class Needed:
    """A requirement and what is installed of it.

    Attributes
    ----------
    requirement : Requirement
    version : str or None
        Installed; None where no such package is.
    modules : tuple of str
        What to import to see whether it works.
    """

    requirement: Requirement
    version: str | None
    modules: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the package."""
        return self.requirement.name

    @property
    def fits(self) -> bool:
        """Whether the installed version is one that we work with."""
        if self.version is None:
            return False
        return self.requirement.specifier.contains(self.version, prereleases=True)

    @property
    def wanted(self) -> str:
        """The requirement as pip reads it, without its marker."""
        extras = f"[{','.join(sorted(self.requirement.extras))}]" if self.requirement.extras else ""
        return f"{self.name}{extras}{self.requirement.specifier}"


def is_installed() -> bool:
    """Tell whether the package has metadata: a mere folder of source code has none."""
    return _find(PACKAGE) is not None


def own_version() -> str:
    """Return the version of this package."""
    found = _find(PACKAGE)
    return found.version if found else "not installed"


def base_requirements() -> list[Needed]:
    """List what is always needed."""
    return [_look_up(one) for one in _requirements("")]


def extras() -> dict[str, list[Needed]]:
    """List what every extra needs, but for those that only developers of this package want."""
    found = _find(PACKAGE)
    names = (found.metadata.get_all("Provides-Extra") or []) if found else []
    base = {str(one) for one in _requirements("")}
    return {
        name: [_look_up(one) for one in _requirements(name) if str(one) not in base]
        for name in names
        if name not in _FOR_DEVELOPERS
    }


def install_command(needed: list[Needed], *, again: bool = False) -> str:
    """Give the one command that installs requirements into this environment.

    Parameters
    ----------
    needed : list of Needed
    again : bool
        Also what is there already: it is broken.
    """
    python = quote(sys.executable)
    pip = f"{python} -m pip" if find_spec("pip") else f"pip --python {python}"
    words = ["--force-reinstall"] if again else []
    words += sorted(quote(one.wanted) for one in needed)
    return f"{pip} install {' '.join(words)}"


def _requirements(extra: str) -> list[Requirement]:
    """List what holds in this environment, with extras that name extras of ours resolved."""
    found = _find(PACKAGE)
    result = []
    for text in (found.requires or []) if found else []:
        one = Requirement(text)
        if one.marker is not None and not one.marker.evaluate({"extra": extra}):
            continue
        if one.name == PACKAGE:
            result += [inner for name in sorted(one.extras) for inner in _requirements(name)]
        else:
            result.append(one)
    return result


def _look_up(requirement: Requirement) -> Needed:
    found = _find(requirement.name)
    version = found.version if found else None
    return Needed(requirement, version, _modules(requirement.name, found))


def _find(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _modules(name: str, found: Distribution | None) -> tuple[str, ...]:
    """Name what to import: the module called like the package, or all that it brings.

    Without a package of that name the module may still be there: tensorflow-cpu brings
    tensorflow.
    """
    like_package = re.sub("-", "_", name)
    brought = _brought(found) if found else set()
    for module in brought:
        if module.lower() == like_package.split(".")[0].lower():
            return (like_package if "." in like_package else module,)
    public = sorted(module for module in brought if not module.startswith("_"))
    return tuple(public) or (like_package,)


def _brought(found: Distribution) -> set[str]:
    listed = (found.read_text("top_level.txt") or "").split()
    if listed:
        return set(listed)
    tops = set()
    for path in found.files or ():
        top = path.parts[0]
        if path.suffix == ".py" and top.removesuffix(".py").isidentifier():
            tops.add(top.removesuffix(".py"))
    return tops
