"""Where the presets are: in a checkout beside the package, installed within it."""

from pathlib import Path

from oce2stardist.errors import InputError

_HERE = Path(__file__).resolve().parent
FOLDER = next(
    (path for path in (_HERE / "configs", _HERE.parent / "configs") if path.is_dir()),
    _HERE / "configs",
)


def find_config(name: str) -> Path:
    """Return the file of a preset, such as ``paper``, or the path that a name is otherwise.

    A bare word that is neither is refused.
    """
    preset = FOLDER / f"{name}.yaml"
    if "/" not in name and preset.exists():
        return preset
    if Path(name).name == name and not Path(name).suffix and not Path(name).exists():
        presets = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yaml")))
        raise InputError(
            f"the config must be a YAML file or a preset ({presets}). Got {name!r}; name another."
        )
    return Path(name)
