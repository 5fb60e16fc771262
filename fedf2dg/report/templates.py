"""The templates of pages and of the model card, and the style of pages.

They are Python, since the bundle in which Flower brings an app to a server carries no other kind of
file that they could be. A page is one file: styles inside, nothing fetched, dark mode, print.
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_CSS = """
:root {
  color-scheme: light dark;
  --paper: light-dark(#ffffff, #15181c); --ink: light-dark(#1c1f23, #e7eaee);
  --soft: light-dark(#5a626b, #a3acb6); --line: light-dark(#dfe3e8, #333a42);
  --tint: light-dark(#f5f7f9, #1e2329); --sheet: light-dark(#ffffff, #1a1e23);
  --good: light-dark(#00664a, #4fd1a5); --bad: light-dark(#b3261e, #ff8a80);
  --unsure: light-dark(#8a5a00, #f0b63c); --blue: light-dark(#0072b2, #5cb3ea);
  --vermillion: light-dark(#d55e00, #ff9152); --green: light-dark(#009e73, #3fd0a4);
  --orange: light-dark(#e69f00, #f0b63c);
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
.verdict { font-size: 1.3rem; font-weight: 700; margin: .8rem 0 .2rem; padding-left: .8rem;
  border-left: .5rem solid var(--mark); color: var(--mark); max-width: none; }
.verdict.good, .words.good { --mark: var(--good); } .verdict.bad, .words.bad { --mark: var(--bad); }
.verdict.unsure, .words.unsure { --mark: var(--unsure); }
.words { color: var(--mark, inherit); } .words:is(.good, .bad, .unsure) {
  font-weight: 600; }
.scroll + .scroll { margin-top: 1.4rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr));
  gap: 1rem; } .gallery figure { margin: 0; }
.gallery img { width: 100%; image-rendering: pixelated; border: 1px solid var(--line); }
.gallery figcaption { overflow-wrap: anywhere; font-size: .8rem; margin-top: .2rem; }
.wide { min-width: 11rem; }
.warning { border-left: 4px solid var(--bad); background: var(--tint); padding: .6rem .9rem;
  max-width: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { padding: .34rem .9rem .34rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: baseline; }
thead th { color: var(--soft); font-weight: 600; font-size: .85rem; line-height: 1.25;
  vertical-align: bottom; }
tbody th { font-weight: 600; overflow-wrap: break-word; min-width: 5.5rem; }
tfoot th, tfoot td { border-bottom: 0; border-top: 2px solid var(--line); font-weight: 600; }
.number { text-align: right; white-space: pre; }
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
  :root { color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  section, figure, tr { break-inside: avoid; }
  section.long { break-inside: auto; }
  h2 { break-after: avoid; margin-top: 1.6rem; }
  .scroll, figure .sheet { overflow: visible; }
  figure .sheet { border: 0; padding: 0; }
  figure svg { min-width: 0; }
}
"""

_DOCUMENT = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
{{% if part.refresh %}}
<meta http-equiv="refresh" content="{{{{ part.refresh }}}}">
{{% endif %}}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{{{ part.title }}}}</title>
<style>{{% raw %}}{_CSS}{{% endraw %}}</style>
</head>
<body>
<main>
<header><h1>{{{{ part.title }}}}</h1>
{{% for each in part.opening %}}
{{{{ each.html() }}}}
{{% endfor %}}
</header>
{{% for each in part.parts %}}
{{{{ each.html() }}}}
{{% endfor %}}
</main>
</body>
</html>
"""

_SECTION = """\
<section{% if part.long %} class="long"{% endif %}>
<h2>{{ part.title }}</h2>
{% if part.columns %}
<div class="settings">
{% endif %}
{% for each in part.parts %}
{{ each.html() }}
{% endfor %}
{% if part.columns %}
</div>
{% endif %}
</section>"""

_TABLE = """\
{% macro classed(cell) %}{% if cell.kind %} class="{{ cell.kind }}"{% endif %}{% endmacro %}
{% macro row(cells) %}
<tr>{% for cell in cells %}
{% if loop.first %}<th scope="row"{{ classed(cell) }}>{{ cell.content }}</th>
{%- else %}<td{{ classed(cell) }}>{{ cell.content }}</td>
{%- endif %}
{% endfor %}</tr>
{% endmacro %}
<div class="scroll" tabindex="0"><table aria-label="{{ part.title }}">
{% if part.header %}
<thead><tr>{% for cell in part.cells(part.header) -%}
<th scope="col"{{ classed(cell) }}>{{ cell.content }}</th>
{%- endfor %}</tr></thead>
{% endif %}
<tbody>
{% for each in part.first_rows %}
{{ row(part.cells(each)) -}}
{% endfor %}
</tbody>
{% if part.footer %}
<tfoot>{{ row(part.cells(part.footer)) }}</tfoot>
{% endif %}
</table></div>
{% set more = part.rows|length - part.first_rows|length %}
{% if more %}
<p class="note">{{ more }} more rows stand in {{ part.rest_in }}.</p>
{% endif %}"""

# A sheet that scrolls on a narrow screen has to be reachable from the keyboard.
_PICTURE = """\
<figure><div class="sheet" tabindex="0">{{ part.svg|safe }}</div>
<figcaption>{{ part.caption }}</figcaption></figure>"""

_GALLERY = """\
<div class="gallery">{% for png, lines in part.pictures %}
<figure><img src="data:image/png;base64,{{ png }}" alt="{{ lines[0] }}">
<figcaption>{% for line in lines %}{{ line }}<br>{% endfor %}</figcaption></figure>
{% endfor %}</div>"""

_FACTS = """\
<ul class="facts">{% for name, value in part.facts.items() -%}
<li>{{ name }} <b>{{ value }}</b></li>
{%- endfor %}</ul>"""

_NOTE = '<p{% if part.kind %} class="{{ part.kind }}"{% endif %}>{{ part.content }}</p>'

# The lines before the title are what Hugging Face reads; "unknown" is its word for no licence yet.
_CARD = """\
---
license: unknown
library_name: fedf2dg
pipeline_tag: image-classification
tags:
- federated-learning
- flower
- fedf2dg
- {{ dataset_tag }}
---

# Image classifier, {{ dataset }}, by federated learning

**{{ word }}.** {{ numbers }}

The images of {{ clients }} trained this model.
{%- if pooled %} They were in one place: a baseline, not federated learning.
{%- else %} They stayed with the clients.
{%- endif %}


{{ facts.markdown() }}

## How good it is

{% for table in tables %}
### {{ table.title }}

{{ table.markdown() }}

{% endfor %}
{% if tables %}
{{ meaning }}

{% endif %}
## What training and what came after it gave

{% for sentence in verdicts %}
{{ sentence }}.

{% endfor %}
## What left the clients

{{ traffic.markdown() }}

## How to use it

{{ usage }}
## Licence

Not chosen yet: write it here, and in the line `license:` at the top of this file.
"""

TEMPLATES = {
    "card": _CARD,
    "document": _DOCUMENT,
    "section": _SECTION,
    "table": _TABLE,
    "picture": _PICTURE,
    "gallery": _GALLERY,
    "facts": _FACTS,
    "note": _NOTE,
    "heading": "<h3>{{ part.content }}</h3>",
}
