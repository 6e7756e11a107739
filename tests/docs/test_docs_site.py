"""The documentation as people open it: every link leads somewhere, nothing is from outside.

mkdocs itself, told to be strict, sees to the links between pages and to the navigation.
"""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("material", reason="needs oce2stardist[docs]")

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

# What a browser fetches by itself, by tag.
LOADED = {"img": ("src", "srcset"), "script": ("src",), "link": ("href",), "source": ("src",)}


class Page(HTMLParser):
    """Links of a page, what it loads, and the places in it that links can lead to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") in ("canonical", "next", "prev"):
            self.links.append(given["href"])  # not loaded
        else:
            self.loads += [given[name] for name in LOADED.get(tag, ()) if given.get(name)]


def find_broken(site):
    """List links within a site that lead nowhere, and what its pages load from outside."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        place = path.relative_to(site)
        broken += [f"{place} loads {link}" for link in page.loads if is_outside(link)]
        for link in [*page.links, *page.loads]:
            if not is_outside(link) and not leads_somewhere(link, path, site, pages):
                broken.append(f"{place}: {link}")
    return broken


def is_outside(link):
    parts = urlsplit(link)
    return bool(parts.netloc) or parts.scheme in ("http", "https", "mailto")


def leads_somewhere(link, path, site, pages):
    parts = urlsplit(link)
    if parts.scheme == "data":
        return True
    start = site if parts.path.startswith("/") else path.parent
    target = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.exists() or site not in target.parents:
        return False
    anchor = unquote(parts.fragment)
    return not anchor or target not in pages or anchor in pages[target].anchors


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site").resolve()
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", folder]
    built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_link_anchor_and_picture_of_the_site_is_there(site):
    assert len(list(site.rglob("*.html"))) >= 18
    assert not find_broken(site)


def test_style_sheets_load_nothing_from_outside(site):
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", text), sheet


def test_the_notebook_is_a_page_with_its_pictures_and_no_script_is_published(site):
    page = Page((site / "tutorial.html").read_text(encoding="utf-8"))
    assert sum(link.startswith("tutorial_files/") for link in page.loads) >= 5
    assert (site / "tutorial.ipynb").exists()
    assert not list(site.rglob("*.py"))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('<a href="b.html">', "a.html: b.html"),
        ('<a href="#there">', "a.html: #there"),
        ('<img src="c.png">', "a.html: c.png"),
        ('<a href="../outside.html">', "a.html: ../outside.html"),
        ('<script src="https://cdn.example/x.js">', "a.html loads https://cdn.example/x.js"),
    ],
)
def test_what_is_wrong_with_a_page_is_noticed(tmp_path, written, said):
    (tmp_path / "site").mkdir()
    (tmp_path / "outside.html").write_text("")
    (tmp_path / "site" / "a.html").write_text(f'<h1 id="here">{written}</h1>')
    assert find_broken((tmp_path / "site").resolve()) == [said]


def test_what_is_right_with_a_page_is_left_alone(tmp_path):
    links = ("#here", "a.html#here", "https://arxiv.org", ".")
    written = [f'<a href="{link}">' for link in links]
    (tmp_path / "a.html").write_text("".join(['<h1 id="here">', *written]))
    (tmp_path / "index.html").write_text("")
    assert find_broken(tmp_path.resolve()) == []
