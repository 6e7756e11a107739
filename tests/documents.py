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

BLOCK = re.compile(
    r"(?:^ *<!-- (?P<verb>not run|run as): (?P<said>\S[^\n]*) -->\s*\n)?"
    r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`\n]*)\n"
    r"(?P<text>.*?)(?P<end>^ *(?P=ticks) *$|\Z)",
    re.MULTILINE | re.DOTALL,
)
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
    text = page.read_text(encoding="utf-8") if text is None else text
    blocks = []
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start("indent")) + 1
        if not block["end"]:
            raise ValueError(f"line {line} opens a block that nothing closes")
        said, title = {block["verb"]: block["said"]}, TITLE.search(block["info"])
        language = said.get("run as") or (block["info"].split() or [""])[0]
        body = re.sub(f"^{block['indent']}", "", block["text"], flags=re.MULTILINE)
        file, reason = title["file"] if title else "", said.get("not run", "")
        blocks.append(Block(page, line, language, body, file, reason))
    return blocks


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
            programs = ", ".join(self.programs)
            raise ValueError(f"commands must begin with one of {programs}. Got {words[0]!r}.")
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
