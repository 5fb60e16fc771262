"""What the Markdown pages say: their code blocks, commands, links and headings."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(
    r"^(?:<!-- example: (?P<directive>.*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_DIRECTIVE = re.compile(r"(?P<action>run|save as|append to) ?(?P<path>\S*)")
_HEREDOC = re.compile(r"<<-?'?(\w+)'?\n.*?^\1$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A Python block that a page tells its reader to use."""

    page: Path
    action: str
    path: str
    text: str


@dataclass(frozen=True)
class Command:
    """One command line of a shell block."""

    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{name(self.page)}: {' '.join(self.words)}"


def name(page: Path) -> str:
    """Return a page's path as a reader knows it."""
    return page.relative_to(ROOT).as_posix()


def examples(*pages: Path) -> list[Example]:
    """Return the marked Python blocks, in their order."""
    found = []
    for page in pages or PAGES:
        for block in _FENCE.finditer(page.read_text("utf-8")):
            if block["directive"] is None:
                continue
            directive = _DIRECTIVE.fullmatch(block["directive"])
            assert directive, f"{name(page)}: what is 'example: {block['directive']}'?"
            assert block["language"] == "python", f"{name(page)}: an example that is not Python"
            found.append(Example(page, directive["action"], directive["path"], block["text"]))
    return found


def commands(*pages: Path) -> list[Command]:
    """Return the command lines of the shell blocks, continued lines joined, in their order."""
    found = []
    for page in pages or PAGES:
        for block in _FENCE.finditer(page.read_text("utf-8")):
            if block["language"] not in ("sh", "bash"):
                continue
            text = _HEREDOC.sub("", block["text"])
            found += [Command(page, words) for words in _command_lines(text)]
    return found


def _command_lines(text: str) -> Iterator[tuple[str, ...]]:
    pending = ""
    for line in text.splitlines():
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1] + "\n"
            continue
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:  # a quotation that goes on in the next line
            pending += "\n"
            continue
        pending = ""
        if words:
            yield tuple(words)
    assert not pending, f"this command does not end: {pending}"


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and pictures."""
    text = _without_code(page)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.*?) *$", _without_code(page), re.MULTILINE):
        base = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        slug, copies = base, 0
        while slug in found:
            copies += 1
            slug = f"{base}-{copies}"
        found.add(slug)
    return found


def inline_code(page: Path) -> list[str]:
    """Return the pieces of code in a page's running text."""
    return re.findall(r"`([^`\n]+)`", _without_code(page))


def _without_code(page: Path) -> str:
    return _FENCE.sub("", page.read_text("utf-8"))
