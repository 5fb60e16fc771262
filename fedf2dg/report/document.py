"""A document that is put together once and read as a page, as Markdown or in a terminal."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from fedf2dg.report.templates import TEMPLATES
from foundation.wording import NONE

#: Rows of a table that a page shows.
MOST_ROWS = 50
# Rows of a table that printed pages may break.
_LONG = 12
# What Markdown would take for more than text. Brackets alone are none; a link's are.
_MARKDOWN = re.compile(r"[\\`*<>|]|(?<!\w)_|_(?!\w)|\[(?=[^]]*]\()|^#")


def shown(value: object) -> object:
    """Return a value so that a page shows it and never obeys it.

    Control characters and direction overrides, which could disguise what is written, become the
    replacement character; line breaks and tabs stay. The template escapes the rest.
    """
    if isinstance(value, Markup):
        return value
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in str(value))


_PAGES = Environment(
    loader=DictLoader(TEMPLATES),
    autoescape=lambda name: name != "card",
    finalize=shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def written(name: str, **content: object) -> str:
    """Return one of the templates with its content in place."""
    return _PAGES.get_template(name).render(content)


class Part:
    """A part of a document, drawn by the template that has its class's name."""

    def html(self) -> Markup:
        """Return the part as HTML."""
        return Markup(written(type(self).__name__.lower(), part=self))

    def markdown(self) -> str:
        """Return the part as Markdown; empty where it is a picture."""
        return ""


@dataclass(frozen=True)
class Note(Part):
    """A paragraph of plain text; kinds are "note", "lead", "way", "warning" and "good"."""

    content: str
    kind: str = ""

    def markdown(self) -> str:
        return f"**{self.content}**" if self.kind == "warning" else self.content


@dataclass(frozen=True)
class Heading(Part):
    """The title of a part of a section."""

    content: str

    def markdown(self) -> str:
        return f"### {self.content}"


@dataclass(frozen=True)
class Facts(Part):
    """Names and values in a line."""

    facts: Mapping[str, str]

    def markdown(self) -> str:
        return ", ".join(f"{name} {value}".strip() for name, value in self.facts.items()) + "."


@dataclass(frozen=True)
class Picture(Part):
    """An ``<svg>`` element of :func:`fedf2dg.report.figures.to_svg` with its caption."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Gallery(Part):
    """Small pictures, each a PNG file in base64 with lines of text below it."""

    pictures: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Cell:
    """Plain text with the style's classes: "gain", "loss", "big", "soft", "any"."""

    content: str
    kind: str = ""


#: None is a value that is not known.
Row = Sequence[Cell | str | None]

Item = TypeVar("Item")
#: What the columns of a table are called, and what each says of a row's item.
Columns = Mapping[str, Callable[[Item], Cell | str | None]]


@dataclass(frozen=True)
class Table(Part):
    """A table whose first column names the rows; ``title`` is what a screen reader calls it.

    Columns whose places are in ``words`` hold words, the others numbers, which stand to the right.
    Without a ``header`` it is a table of names and values; a ``footer`` is a last row of sums. Of
    many rows a page shows the first :data:`MOST_ROWS` if the others stand in a file, ``rest_in``.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Row]
    words: Sequence[int] = (0,)
    footer: Row = ()
    rest_in: str = ""

    @classmethod
    def of(cls, title: str, columns: Columns[Item], items: Iterable[Item], **more: Any) -> Self:
        """Return a table with a row for each item."""
        rows = [[read(item) for read in columns.values()] for item in items]
        return cls(title, list(columns), rows, **more)

    def section(self, *below: "str | Part", long: bool = False) -> "list[Section]":
        """Return a section that holds the table, with notes below it; none without a row."""
        parts = [Note(part, "note") if isinstance(part, str) else part for part in below]
        long = long or len(self.rows) > _LONG
        return [Section(self.title, [self, *parts], long)] if self.rows else []

    def cells(self, row: Row) -> list[Cell]:
        """Return a row's cells, each with its column's alignment among its classes."""
        words = {place % len(row) for place in self.words} if row else set()
        found = []
        for place, value in enumerate(row):
            cell = value if isinstance(value, Cell) else Cell(NONE if value is None else value)
            kind = cell.kind if place in words else f"number {cell.kind}".strip()
            found.append(Cell(cell.content, kind))
        return found

    def without_empty(self) -> Self:
        """Return the table without the columns that no row has anything in."""
        cells = [[cell.content for cell in self.cells(row)] for row in self.rows]
        places = [k for k in range(len(self.header)) if {row[k] for row in cells} - {"", NONE}]

        def left(row: Row) -> Row:
            return [row[k] for k in places] if row else row

        of_words = {place % len(self.header) for place in self.words}
        words = [new for new, k in enumerate(places) if k in of_words]
        header = [self.header[k] for k in places]
        return replace(
            self, header=header, rows=[*map(left, self.rows)], words=words, footer=left(self.footer)
        )

    @property
    def first_rows(self) -> Sequence[Row]:
        """The rows that a page shows."""
        return self.rows[:MOST_ROWS] if self.rest_in else self.rows

    def markdown(self) -> str:
        width = len(self.header) or max(map(len, self.rows), default=0)
        head = self.cells(list(self.header) or [""] * width)
        rule = [Cell("---:" if "number" in cell.kind else "---") for cell in head]
        lines = [head, rule, *map(self.cells, filter(None, [*self.rows, self.footer]))]
        return "\n".join(f"| {' | '.join(escaped(c.content) for c in line)} |" for line in lines)

    def terminal(self) -> str:
        """Return the table in ASCII without a trailing line end, ruled off from its footer."""
        rows = [
            [(c.content.replace(NONE, "-").replace("\n", " "), c.kind) for c in self.cells(row)]
            for row in (self.header, *self.rows, self.footer)
            if row
        ]
        widths = [max(len(row[place][0]) for row in rows) for place in range(len(rows[0]))]
        lines = [
            "  ".join(
                said.rjust(width) if "number" in kind else said.ljust(width)
                for (said, kind), width in zip(row, widths, strict=True)
            ).rstrip()
            for row in rows
        ]
        rule = "-" * max(map(len, lines))
        if self.footer:
            lines.insert(-1, rule)
        if self.header:
            lines.insert(1, rule)
        return "\n".join(lines)


@dataclass(frozen=True)
class Section(Part):
    """Parts under a headline.

    Printed pages may break one that is ``long``; ``columns`` are for a table of names and values.
    """

    title: str
    parts: Sequence[Part]
    long: bool = False
    columns: bool = False

    def markdown(self) -> str:
        if self.columns:  # of settings, which a page alone has room for
            return ""
        said = [part.markdown() for part in self.parts]
        return "\n\n".join([f"## {self.title}", *filter(None, said)])


@dataclass(frozen=True)
class Document(Part):
    """A whole page that is one file, or the same as Markdown without its pictures.

    A browser loads it again after ``refresh`` seconds; 0: never.
    """

    title: str
    opening: Sequence[Part]
    parts: Sequence[Part]
    refresh: int = 0

    def markdown(self) -> str:
        said = [part.markdown() for part in (*self.opening, *self.parts)]
        return "\n\n".join([f"# {self.title}", *filter(None, said)]) + "\n"


def escaped(content: str) -> str:
    """Return text that is no Markdown, in one line."""
    return " ".join(_MARKDOWN.sub(lambda found: f"\\{found[0]}", content).split())
