"""A page as a test sees it: its tags, links, pictures and texts."""

import re
from html.parser import HTMLParser

SCRIPT = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What is on a page: tags, attributes and the text of chosen elements."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.links, self.pictures = [], [], []
        self.texts = {name: [] for name in ("h2", "h3", "figcaption", "td", "th", "p", "pre")}
        self._open = None
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for key, value in attributes if key in ("src", "href", "srcset")]
        if tag == "img":
            self.pictures.append(dict(attributes))
        if tag in self.texts:
            self._open = tag
            self.texts[tag].append("")

    def handle_endtag(self, tag):
        if tag == self._open:
            self._open = None

    def handle_data(self, data):
        if self._open:
            self.texts[self._open][-1] += data


def assert_self_contained(page):
    assert "script" not in page.tags
    assert page.links and all(link.startswith("data:") for link in page.links)
    assert not re.search(r"url\(|@import|https?://", page.source)
