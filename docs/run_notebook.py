"""Run docs/tutorial.ipynb in an empty folder and store its outputs in it.

The site shows what is stored, so that building it trains nothing.
"""

import base64
import io
import os
import re
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).with_name("tutorial.ipynb")
COLOURS = 64
"""Of a stored picture."""


def run_notebook(folder: Path) -> nbformat.NotebookNode:
    """Run the notebook in a folder; returns it with its outputs.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell raises an error.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return without_traces(notebook)


def without_traces(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out times, and paths and addresses of memory that differ from run to run."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:  # what TensorFlow says of itself when it starts
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
        for output in cell.get("outputs", ()):
            if "text" in output:
                output.text = re.sub(r" at 0x[0-9a-f]+", "", output.text)
            output.get("data", {}).pop("text/html", None)
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
                output.data["text/plain"] = "a picture"
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def smaller(png: str) -> str:
    """Store a picture, PNG in base 64, with few colours."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with tempfile.TemporaryDirectory() as empty:
        nbformat.write(run_notebook(Path(empty)), NOTEBOOK)
