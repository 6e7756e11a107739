"""Where the presets are: in a checkout beside the package, installed within it."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
FOLDER = next(
    (path for path in (_HERE / "configs", _HERE.parent / "configs") if path.is_dir()),
    _HERE / "configs",
)


def find_config(name: str) -> Path:
    """Return the file of a preset, such as ``paper``, or the path that a name is otherwise."""
    preset = FOLDER / f"{name}.yaml"
    return preset if "/" not in name and preset.exists() else Path(name)
