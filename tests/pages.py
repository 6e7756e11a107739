"""A page as a test sees it: its tags, links, pictures and texts."""

import re
from html.parser import HTMLParser

SCRIPT = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What is on a page: tags, links, pictures, the text of chosen elements, and tables.

    Tables are rows of cells, each with its text, its bold texts and its links.
    """

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.links, self.pictures, self.tables = [], [], [], []
        self.texts = {name: [] for name in ("h2", "h3", "figcaption", "td", "th", "p", "pre")}
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
        elif tag == "a":
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
    assert "script" not in page.tags
    assert page.links and all(link.startswith("data:") for link in page.links)
    assert not re.search(r"url\(|@import|https?://", page.source)
