"""Blocks of code in Markdown, and how those of a page are run one after another."""

import ast
import io
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`]*)")
MARK = re.compile(r"<!-- (?P<verb>not run|run as): (?P<said>\S.*) -->")
TITLE = re.compile(r'title="(?P<file>[\w./-]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, and what is said about it.

    Attributes
    ----------
    file : str
        Of ``title="FILE"``: the block is the content of that file.
    reason : str
        Why it is not run, from ``<!-- not run: REASON -->`` above it.
    """

    page: Path
    line: int
    language: str
    text: str
    file: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def find_blocks(page: Path, text: str | None = None) -> list[Block]:
    """List the fenced blocks of a page in order."""
    lines = (page.read_text(encoding="utf-8") if text is None else text).splitlines()
    blocks, at = [], 0
    while at < len(lines):
        opened = FENCE.fullmatch(lines[at].rstrip())
        if opened is None:
            at += 1
            continue
        end = _closing(lines, at, opened)
        said = _mark_above(lines, at)
        title = TITLE.search(opened["info"])
        language = (opened["info"].split() or [""])[0]
        if said.get("run as"):
            language = said["run as"]
        body = [line.removeprefix(opened["indent"]) for line in lines[at + 1 : end]]
        blocks.append(
            Block(
                page,
                at + 1,
                language,
                "\n".join(body) + "\n",
                file=title["file"] if title else "",
                reason=said.get("not run", ""),
            )
        )
        at = end + 1
    return blocks


def _closing(lines: list[str], at: int, opened: re.Match[str]) -> int:
    for end in range(at + 1, len(lines)):
        if lines[end].strip() == opened["ticks"]:
            return end
    raise ValueError(f"line {at + 1} opens a block that nothing closes")


def _mark_above(lines: list[str], at: int) -> dict[str, str]:
    before = at - 1
    while before >= 0 and not lines[before].strip():
        before -= 1
    found = MARK.fullmatch(lines[before].strip()) if before >= 0 else None
    return {found["verb"]: found["said"]} if found else {}


# --- running


def commands_of(text: str) -> list[list[str]]:
    """Split shell lines into words: continued lines are joined, comments dropped."""
    joined = text.replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


@dataclass
class Session:
    """One reader who works through one page, in the current folder.

    Attributes
    ----------
    programs : mapping of the first word of a command to what runs it
        It is given all words, and returns what the command prints.
    names : dict
        What the Python blocks of the page have defined.
    """

    programs: dict[str, Callable[[list[str]], str]]
    names: dict[str, Any] = field(default_factory=dict)

    def run(self, block: Block) -> None:
        """Run a block as its language says; whatever goes wrong is raised."""
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
        if block.language == "bash":
            for words in commands_of(block.text):
                self._command(words)
        elif block.language == "python":
            # Line numbers of a traceback are those of the page.
            code = compile("\n" * block.line + block.text, str(block.page), "exec")
            with redirect_stdout(io.StringIO()):
                exec(code, self.names)
        elif not block.file:
            raise ValueError(
                f"{block} must be bash or python, have a title that names its file, or a mark "
                f"that says why it is not run. Got {block.language!r}."
            )

    def _command(self, words: list[str]) -> None:
        words, file = (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, None)
        if words[0] not in self.programs:
            known = ", ".join(self.programs)
            raise ValueError(f"commands must begin with one of {known}. Got {words[0]!r}.")
        printed = self.programs[words[0]](words)
        if file is not None:
            Path(file).write_text(printed, encoding="utf-8")


# --- messages

WILDCARD = "\0"
"""Stands for what an f-string fills in."""


def messages_of(package: Path) -> Iterator[str]:
    """Go through all texts in the code, with `WILDCARD` for what is filled in."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else WILDCARD
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def quotes(quoted: str, message: str) -> bool:
    """Tell whether a quotation, with … for what varies, is of this message."""
    pattern = ".*".join(re.escape(part.strip()) for part in quoted.split("…"))
    return re.search(pattern, message, re.DOTALL) is not None
