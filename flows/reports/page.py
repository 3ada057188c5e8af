"""A report as one page that opens from a file: no network, images inside, light and dark."""

from __future__ import annotations

import base64
import html
import math
from typing import Any

from flows.reports.parts import Plot, Report, Table, rows_of

STYLE = """
:root{color-scheme:light dark;--ground:#fff;--card:#f6f7f9;--ink:#1b2330;--quiet:#5d6775;
--line:#dfe3e8;--mark:#0067a3}
@media (prefers-color-scheme:dark){:root{--ground:#14181f;--card:#1c222b;--ink:#e6e9ee;
--quiet:#9aa5b3;--line:#333b47;--mark:#5fb0e6}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1240px;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0 1rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.5rem 0 .75rem;padding-top:.75rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:0 0 .5rem}
p{margin:.5rem 0;max-width:46rem;overflow-wrap:anywhere}
.answer{background:var(--card);border-left:4px solid var(--mark);border-radius:4px;
padding:.75rem 1rem;margin:0 0 1rem}
.answer p:first-child{font-size:1.15rem;font-weight:600}
.answer p{max-width:none}
.note,figcaption{color:var(--quiet);font-size:.86rem}
nav{display:flex;flex-wrap:wrap;gap:.25rem 1rem;font-size:.9rem}
a{color:var(--mark)}
.part{margin:1.25rem 0 1.75rem}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:4px}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .55rem;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap}
tr:last-child td{border-bottom:0}
th{background:var(--card);font-weight:600;color:var(--quiet)}
th button{all:unset;cursor:pointer}
th button:focus-visible{outline:2px solid var(--mark)}
th[aria-sort=ascending] button::after{content:" \\2191"}
th[aria-sort=descending] button::after{content:" \\2193"}
.number{text-align:right}
th:first-child,td:first-child{position:sticky;left:0}
td:first-child{background:var(--ground)}
td:first-child>div{width:max-content;white-space:normal;overflow-wrap:anywhere}
@media (max-width:640px){.wide:not(.facts) td:first-child>div{max-width:9.5rem}}
.facts td:last-child{white-space:normal;overflow-wrap:anywhere}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr));
gap:1.75rem 2rem;align-items:start}
figure{margin:0}
figure img{display:block;width:100%;max-width:36rem;height:auto}
@media print{.wide{overflow:visible}h2{break-after:avoid}figure{break-inside:avoid}}
"""

# A click sorts a table by a column; rows without a value stay last.
SCRIPT = """
for (const head of document.querySelectorAll('th button')) head.onclick = () => {
  const th = head.parentElement, body = th.closest('table').tBodies[0];
  const up = th.ariaSort !== 'ascending', column = th.cellIndex;
  const key = row => row.cells[column].dataset.value;
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === '' || y === '') return (x === '') - (y === '');
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return up ? order : -order;
  };
  for (const other of th.parentElement.cells) other.removeAttribute('aria-sort');
  th.ariaSort = up ? 'ascending' : 'descending';
  body.append(...[...body.rows].sort(compare));
};
"""


def page(report: Report, images: dict[str, str]) -> str:
    """The page. images: the SVG text of every plot, by its name."""
    links = "".join(
        f'<a href="#s{number}">{_text(section.title)}</a>'
        for number, section in enumerate(report.sections)
    )
    sections = "".join(
        f'<section id="s{number}"><h2>{_text(section.title)}</h2>'
        + "".join(f"<p>{_text(text)}</p>" for text in section.text)
        + _parts(section.parts, section.title, images)
        + "</section>"
        for number, section in enumerate(report.sections)
    )
    answer = "".join(f"<p>{_text(text)}</p>" for text in report.headline)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # Without it a browser asks the folder for an icon.
        '<link rel="icon" href="data:,">'
        f"<title>{_text(report.title)}</title><style>{STYLE}</style></head><body><main>"
        f'<h1>{_text(report.title)}</h1><div class="answer">{answer}</div><nav>{links}</nav>'
        f"{sections}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _parts(parts: tuple[Table | Plot, ...], title: str, images: dict[str, str]) -> str:
    tables = "".join(_table(part, title) for part in parts if isinstance(part, Table))
    figures = "".join(_figure(part, images[part.name]) for part in parts if isinstance(part, Plot))
    return tables + (f'<div class="figures">{figures}</div>' if figures else "")


def _figure(plot: Plot, svg: str) -> str:
    data = base64.b64encode(svg.encode()).decode()
    return (
        f"<figure><h3>{_text(plot.title)}</h3>"
        f'<img alt="{_text(plot.title)}. {_text(plot.caption)}" '
        f'src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{_text(plot.caption)}</figcaption></figure>"
    )


def _table(table: Table, section: str) -> str:
    kinds = [
        ' class="number"' if table.frame[column.column].dtype.kind in "iuf" else ""
        for column in table.shown
    ]
    heads = "".join(
        f'<th scope="col"{kind}><button>{_text(column.title) or "&nbsp;"}</button></th>'
        for column, kind in zip(table.shown, kinds, strict=True)
    )
    rows = []
    for values, texts in zip(rows_of(table.frame), table.rows(), strict=True):
        cells = [
            f'<td{kind} data-value="{_sortable(values[column.column])}">{_text(text)}</td>'
            for column, kind, text in zip(table.shown[1:], kinds[1:], texts[1:], strict=True)
        ]
        # On a narrow page the first column stays, and its long names are broken.
        name = _sortable(values[table.shown[0].column])
        first = f'<td data-value="{name}"><div>{_text(texts[0])}</div></td>'
        rows.append(f"<tr>{first}{''.join(cells)}</tr>")
    title = f"<h3>{_text(table.title)}</h3>" if table.title != section else ""
    note = f'<p class="note">{_text(table.note)}</p>' if table.note else ""
    facts = " facts" if table.name == "environment" else ""
    return (
        f'<div class="part">{title}<div class="wide{facts}" tabindex="0" role="region" '
        f'aria-label="{_text(table.title)}"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{note}</div>"
    )


def _sortable(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return _text(str(value))


def _text(text: str) -> str:
    return html.escape(text, quote=True)
