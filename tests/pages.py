"""A page as a test sees it: its tags, links, pictures and texts."""

import re
from html.parser import HTMLParser
from pathlib import Path

from oce2stardist.reports.drawing.page import DOCUMENTATION

DOCS = Path(__file__).resolve().parents[1] / "docs"

SCRIPT = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What is on a page: tags, links, pictures, the text of chosen elements, and tables.

    Tables are rows of cells, each with its text, its bold texts and its links.
    """

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.links, self.pictures, self.tables = [], [], [], []
        self.texts = {
            name: [] for name in ("h2", "h3", "figcaption", "td", "th", "p", "pre", "li", "code")
        }
        self._open = []
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._open.append(tag)
        links = [value for key, value in attributes if key in ("src", "href", "srcset")]
        self.links += links
        if tag in self.texts:
            self.texts[tag].append("")
        if tag == "img":
            self.pictures.append(dict(attributes))
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append({"text": "", "bold": [], "links": []})
        elif tag == "a" and {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1]["links"] += links

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        for name in set(self._open).intersection(self.texts):
            self.texts[name][-1] += data
        if {"td", "th"} & set(self._open):
            cell = self.tables[-1][-1][-1]
            cell["text"] += data.strip("\n")
            cell["bold"] += [data] * ("strong" in self._open)


def assert_self_contained(page):
    """It runs and loads nothing; its one address is of the documentation, to be clicked."""
    assert "script" not in page.tags
    to_docs = [link for link in page.links if link.startswith(f"{DOCUMENTATION}/")]
    assert len(to_docs) == 1 and (DOCS / to_docs[0].split("/")[-1]).with_suffix(".md").exists()
    assert all(link.startswith("data:") for link in page.links if link not in to_docs)
    assert not re.search(r"url\(|@import|https?://", page.source.replace(to_docs[0], ""))
