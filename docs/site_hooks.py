"""A hook of mkdocs: shows tutorial.ipynb, with the outputs stored in it, as a page."""

from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

NOTEBOOK = Path(__file__).with_name("tutorial.ipynb")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Show the notebook, with the outputs stored in it, as tutorial.md.

    The notebook itself stays a file to be downloaded.
    """
    text, pictures = convert(NOTEBOOK)
    files.append(File.generated(config, "tutorial.md", content=text))
    for name, content in pictures.items():
        files.append(File.generated(config, name, content=content))
    return files


def convert(path: Path) -> tuple[str, dict[str, bytes]]:
    """Turn a notebook into Markdown and pictures by name."""
    notebook = nbformat.read(path, as_version=4)
    body, resources = MarkdownExporter().from_notebook_node(
        notebook, resources={"output_files_dir": "tutorial_files", "unique_key": "tutorial"}
    )
    outputs: dict[str, Any] = resources["outputs"]
    return body, dict(outputs)
