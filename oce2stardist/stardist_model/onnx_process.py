"""The conversion to ONNX, in a process of its own.

In a process with many other models an export at times had outputs of another shape than the
model's. Its check noticed, but the user had no file. Here there is one model, and a fixed order of
sets, so that every conversion is like the first.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from oce2stardist.errors import InputError


def convert_apart(path: Path, folder: Path, *, layout: str, metadata: dict[str, str]) -> None:
    """Write a StarDist folder as ONNX; see `oce2stardist.stardist_model.convert.write_onnx`.

    Raises
    ------
    InputError
        If the process ends without a file.
    """
    with TemporaryDirectory() as work:
        request = Path(work) / "request.json"
        content = {"folder": str(folder.resolve()), "layout": layout, "metadata": metadata}
        request.write_text(json.dumps(content), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(request), str(path.resolve())],
            env=os.environ | {"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
        )
    if done.returncode != 0 or not path.exists():
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise InputError(
            f"{folder} must be a model that tf2onnx converts. Got: {said}; see that there is "
            "memory enough, and `oce2stardist doctor`."
        )


def main() -> None:
    """Do what the request says."""
    from oce2stardist.stardist_model.convert import write_onnx
    from oce2stardist.stardist_model.network import open_model

    request, path = map(Path, sys.argv[1:])
    wanted = json.loads(request.read_text(encoding="utf-8"))
    model = open_model(Path(wanted["folder"]))
    write_onnx(path, model, layout=wanted["layout"], metadata=wanted["metadata"])


if __name__ == "__main__":
    main()
