"""Numbers that a hand-written page quotes from published reports, and whether they are there.

A page says where a number is from by a comment, which no reader sees:

    Setting 4 keeps 97.1 %<!-- kd-settings-minilm-sst2 | Results | setting 4 | kept -->.

    <!-- kd-settings-minilm-sst2 | Results -->
    | configuration | accuracy |
    |---|---|
    | setting 4 | 0.868 ± 0.004 |

The parts are the folder of the report, the heading of a table in its report.md, the first cell of a
row, and the head of a column. A whole table may leave out rows and columns of the report's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

MARK = re.compile(
    r"<!--\s*([^|<>]+?)\s*\|\s*([^|<>]+?)\s*(?:\|\s*([^|<>]+?)\s*\|\s*([^|<>]+?)\s*)?-->"
)
Tables = dict[str, list[dict[str, str]]]


def markdown_tables(text: str) -> Tables:
    """The tables of a Markdown text by the nearest heading above them."""
    found: Tables = {}
    heading, titles = "", list[str]()
    for line in text.splitlines():
        if line.startswith("#"):
            heading, titles = line.lstrip("# "), []
        elif line.startswith("|"):
            cells = _cells(line)
            if not titles:
                titles = cells
                found[heading] = []
            elif not set(line) <= set("|-: "):
                found[heading].append(dict(zip(titles, cells, strict=True)))
    return found


def marks(page: str) -> int:
    """How many numbers and tables a page quotes."""
    return len(MARK.findall(page))


def wrong_quotes(page: str, reports: Path) -> list[str]:
    """What a page quotes and the reports, a folder of each in `reports`, do not say."""
    return list(_wrong(page, reports))


def _wrong(page: str, reports: Path) -> Iterator[str]:
    for mark in MARK.finditer(page):
        folder, heading, row, column = mark.groups()
        path = reports / folder / "report.md"
        tables = markdown_tables(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if heading not in tables:
            yield f"{mark.group()}: no table {heading} in {folder}/report.md"
            continue
        known = {next(iter(cells.values())): cells for cells in tables[heading]}
        if row is None:
            yield from (f"{mark.group()}: {what}" for what in _other_cells(page, mark.end(), known))
            continue
        if (said := known.get(row, {}).get(column)) is None:
            yield f"{mark.group()}: no such cell"
            continue
        before = page[: mark.start()].rstrip("*`_ ")
        # A mean may be quoted without its spread.
        wanted = "|".join(re.escape(text) for text in (said, said.partition(" ± ")[0]))
        if not re.search(rf"(?<![\w.,-])(?:{wanted})$", before):
            yield f"{mark.group()}: the report says {said}"


def _other_cells(page: str, begin: int, known: dict[str, dict[str, str]]) -> Iterator[str]:
    """Of the table that begins there."""
    lines = page[begin:].lstrip().splitlines()
    table = [line for line in lines[: _length(lines)] if not set(line) <= set("|-: ")]
    if len(table) < 2:
        yield "no table follows"
        return
    titles = _cells(table[0])
    for line in table[1:]:
        first, *cells = _cells(line)
        for title, cell in zip(titles[1:], cells, strict=True):
            said = known.get(first, {}).get(title)
            if said != cell:
                yield f"{first}, {title}: {cell} here, {said} in the report"


def _length(lines: list[str]) -> int:
    return next((n for n, line in enumerate(lines) if not line.startswith("|")), len(lines))


def _cells(line: str) -> list[str]:
    cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
    # As a reader sees them: a sign after a backslash is that sign.
    return [re.sub(r"\\(?=[^\w\s])", "", cell.strip()) for cell in cells]
