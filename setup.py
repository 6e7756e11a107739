"""Give a package index the README with links that lead out of it; all else is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def readme_for_the_index() -> str:
    """Turn links to files of the repository into addresses of it."""
    settings = (HERE / "pyproject.toml").read_text(encoding="utf-8")
    source = re.search(r'^Source = "(.+)"', settings, re.MULTILINE)[1]
    text = (HERE / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)  # notes to ourselves
    text = re.sub(r"!\[(.+?)\]\((?!https:)", rf"![\1]({source}/raw/main/", text)
    return re.sub(r"(?<!!)\[([^]]+)\]\((?!https:)", rf"[\1]({source}/blob/main/", text)


setup(long_description=readme_for_the_index(), long_description_content_type="text/markdown")
