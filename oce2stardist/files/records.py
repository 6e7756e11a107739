"""Reads the YAML files that runs leave."""

from pathlib import Path
from typing import Any

import yaml

from oce2stardist.errors import InputError, one_line


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that a run left; an OSError tells that it is not there."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = one_line(error)[:200]
        raise InputError(
            f"{path} must be as a run wrote it. Got a file that can't be read: {reason}; "
            "choose another folder, or delete this one and run again."
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} must be as a run wrote it. Got no mapping of keys; choose another folder, "
            "or delete this one and run again."
        )
    return content


def read_yaml_if_there(path: Path) -> dict[str, Any]:
    """Read a YAML file as `read_yaml` does; empty where there is none."""
    return read_yaml(path) if path.is_file() else {}
