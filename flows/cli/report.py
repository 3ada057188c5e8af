"""`rosita report`: what a grid has found, as tables, plots and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import JsonOption, print_json


def report(
    out: Annotated[Path, typer.Option("--out", help="The folder to write into.")],
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", help="A grid that has run here. Repeatable: tasks side by side."),
    ] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option("--records", help="A folder of records, as in OUT/records. Repeatable."),
    ] = None,
    format_: Annotated[
        list[str] | None,
        typer.Option("--format", help="markdown, html or tables (CSV, Parquet); all by default."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Write tables and plots of finished grids: Markdown, CSV, Parquet, PNG and one HTML page.

    Everything comes from the records of finished cells; nothing is trained. Cells that are not
    finished are named. With --grid the records are kept in OUT/records, for --records.
    """
    if bool(grid) == bool(records):
        raise ValueError(
            "report must have --grid or --records, got " + ("both" if grid else "neither")
        )
    from flows.grids.files import grid_pages
    from flows.grids.records import collect, load, save_all
    from flows.reports.build import FORMATS, as_json, build, check_formats, write, written_into
    from flows.reports.records import report_records
    from tasks.home import home_directory
    from tasks.host.private_files import users_files

    formats = check_formats(format_ or FORMATS)
    loaded = [load(folder) for given in records or () for folder in _folders(given)]
    home = home_directory()
    collected = {name: collect(home, name) for name in grid or ()}
    found = report_records([*loaded, *collected.values()])
    links = {title: page for name in collected for title, page in grid_pages(home, name).items()}
    made = build(found, links)
    with users_files():
        if collected:
            with written_into(out):
                save_all(collected, out / "records")
        files = write(made, out, formats)
    if json_:
        print_json(as_json(made, found, files))
        return
    for sentence in made.headline:
        print(sentence)
    for path in files:
        if path.parent == out:
            print(f"wrote {path}")


def _folders(given: Path) -> list[Path]:
    """A folder of records, or the folders of several grids in it."""
    inner = sorted(path.parent for path in given.glob("*/grid.json"))
    return inner if inner and not (given / "grid.json").exists() else [given]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)
