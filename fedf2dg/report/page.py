"""The skeleton of a page that is one file: styles inside, nothing fetched, dark mode, print."""

from __future__ import annotations

import html
from collections.abc import Iterable

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1c1f23; --soft: #5a626b; --line: #dfe3e8; --tint: #f5f7f9;
  --good: #00664a; --bad: #a34500; --sheet: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c; --ink: #e7eaee; --soft: #a3acb6; --line: #333a42; --tint: #1e2329;
    --good: #4fd1a5; --bad: #f2a15f; --sheet: #1a1e23;
    --blue: #5cb3ea; --vermillion: #ff9152; --green: #3fd0a4; --orange: #f0b63c;
  }
}
* { box-sizing: border-box; }
html { background: var(--paper); -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 62rem; padding: 2.2rem 1.5rem 4rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .7rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line); }
p { margin: .5rem 0; max-width: 46rem; }
.lead { font-size: 1.15rem; margin: .2rem 0 1rem; }
.facts { display: flex; flex-wrap: wrap; gap: .3rem 1.6rem; margin: .8rem 0 1.4rem; padding: 0;
  list-style: none; color: var(--soft); font-size: .93rem; }
.facts b { color: var(--ink); font-weight: 600; }
.way { color: var(--soft); margin: 0 0 .8rem; }
.soft { color: var(--soft); font-size: .85rem; }
.note { color: var(--soft); font-size: .9rem; }
.warning { border-left: 4px solid var(--bad); background: var(--tint); padding: .6rem .9rem;
  max-width: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { padding: .34rem .9rem .34rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: baseline; }
thead th { color: var(--soft); font-weight: 600; font-size: .85rem; line-height: 1.25;
  vertical-align: bottom; }
tbody th { font-weight: 600; }
tbody th, tfoot th { white-space: nowrap; }
tfoot th, tfoot td { border-bottom: 0; border-top: 2px solid var(--line); font-weight: 600; }
.number { text-align: right; white-space: nowrap; }
thead .number { white-space: normal; }
.big { font-size: 1.2rem; font-weight: 600; }
.gain { color: var(--good); font-weight: 600; } .loss { color: var(--bad); font-weight: 600; }
.any { overflow-wrap: anywhere; white-space: pre-wrap; min-width: 14rem; }
.settings { columns: 2 22rem; column-gap: 2.5rem; }
.settings .scroll { overflow: visible; }
.settings table { width: 100%; border-collapse: separate; border-spacing: 0; }
.settings tr { break-inside: avoid; }
.settings tbody th { font-weight: 400; white-space: normal; color: var(--soft); }
.settings td { overflow-wrap: anywhere; }
figure { margin: .8rem 0 1.6rem; }
figure .sheet { background: var(--sheet); border: 1px solid var(--line); border-radius: 6px;
  padding: .8rem; overflow-x: auto; }
figure svg { display: block; width: calc(100% * var(--width, 1)); height: auto; margin: 0 auto;
  min-width: calc(38rem * var(--width, 1)); }
figure svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans",
  sans-serif !important; }
figure svg image { image-rendering: pixelated; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .5rem; max-width: 50rem; }
@media (max-width: 36rem) {
  body { padding: 1.2rem .9rem 3rem; } h1 { font-size: 1.4rem; }
  table { font-size: .85rem; } th, td { padding-right: .5rem; } .big { font-size: 1rem; }
  thead th { font-size: .8rem; }
  figure .sheet { padding: .4rem; }
}
@page { margin: 14mm; }
@media print {
  :root {
    color-scheme: light;
    --paper: #ffffff; --ink: #000000; --soft: #444444; --line: #bbbbbb; --tint: #ffffff;
    --good: #00513a; --bad: #7d3500; --sheet: #ffffff;
    --blue: #0072b2; --vermillion: #d55e00; --green: #009e73; --orange: #e69f00;
  }
  body { max-width: none; padding: 0; font-size: 10pt; }
  section, figure, tr { break-inside: avoid; }
  section.long { break-inside: auto; }
  h2 { break-after: avoid; margin-top: 1.6rem; }
  .scroll, figure .sheet { overflow: visible; }
  figure .sheet { border: 0; padding: 0; }
  figure svg { min-width: 0; }
}
"""


def page(title: str, body: Iterable[str], *, refresh: int = 0) -> str:
    """Return a whole page.

    Parameters
    ----------
    title : str
        Plain text.
    body : Iterable[str]
        HTML of the page's parts; whoever made it has escaped it.
    refresh : int (default: 0)
        Seconds after which a browser loads the page again; 0: never.
    """
    again = f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"{again}"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str, long: bool = False) -> str:
    """Return a section; ``long`` ones may be broken over printed pages."""
    start = '<section class="long">' if long else "<section>"
    return f"{start}\n<h2>{text(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def paragraph(content: str, kind: str = "") -> str:
    """Return a paragraph of plain text; kinds are "note", "lead" and "warning"."""
    return f'<p class="{kind}">{text(content)}</p>' if kind else f"<p>{text(content)}</p>"


def subheading(content: str) -> str:
    """Return the title of a part of a section."""
    return f"<h3>{text(content)}</h3>"


def figure(svg: str, caption: str) -> str:
    """Return a figure with its caption (plain text); its colours follow the page's."""
    # A sheet that scrolls on a narrow screen has to be reachable from the keyboard.
    return (
        f'<figure><div class="sheet" tabindex="0">{svg}</div>'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def text(content: object) -> str:
    """Return any text so that a page shows it and never obeys it.

    Control characters and direction overrides, which could disguise what is written, become
    the replacement character; line breaks and tabs stay.
    """
    shown = (c if c.isprintable() or c in "\n\t" else "\ufffd" for c in str(content))
    return html.escape("".join(shown), quote=True)
