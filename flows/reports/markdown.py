"""A report as Markdown."""

from __future__ import annotations

from flows.reports.parts import Report, Table
from rosita_core.export.markdown import plain

PLOTS = "plots"


def markdown(report: Report, images: bool) -> str:
    """The report; with `images` it shows the PNG files in the folder `plots` beside it."""
    blocks = [f"# {plain(report.title)}", *map(plain, report.headline)]
    if report.links:
        blocks.append(", ".join(f"[{plain(name)}]({url})" for name, url in report.links.items()))
    for section in report.sections:
        if not images and not section.text and not section.tables:
            continue
        blocks.append(f"## {section.title}")
        blocks += section.text
        for part in section.parts:
            if isinstance(part, Table):
                if part.title != section.title:
                    blocks.append(f"### {part.title}")
                blocks.append(_table(part))
                if part.note:
                    blocks.append(part.note)
            elif images:
                blocks.append(f"### {part.title}")
                blocks.append(f"![{part.title}]({PLOTS}/{part.name}.png)")
                blocks.append(part.caption)
    return "\n\n".join(blocks) + "\n"


def _table(table: Table) -> str:
    lines = [
        _line([column.title for column in table.shown]),
        _line(["---:" if table.is_number(column) else "---" for column in table.shown]),
        *map(_line, table.rows()),
    ]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(map(plain, cells)) + " |"
