"""The report as flows write it: into the home, and as pages of Prefect's."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from flows.grids.files import grid_pages
from flows.grids.records import collect, save
from flows.grids.tables import result_rows
from tasks.home import Home, home_directory
from tasks.host.logs import warn
from tasks.host.wording import error_line


def write_report(grid: str, out: str, formats: Sequence[str]) -> dict[str, Any]:
    """Write the report of a grid; returns what `rosita report --json` prints.

    Args:
        grid: that has run in this home.
        out: folder; empty for `reports/<grid>` in the home.
        formats: of `flows.reports.build.FORMATS`.

    Raises:
        ValueError: for a grid that has not run here, or a folder that cannot be written.
    """
    from flows.reports.build import as_json, build, check_formats, write
    from flows.reports.markdown import markdown
    from flows.reports.records import report_records

    chosen = check_formats(formats)
    home = home_directory()
    folder = Path(out) if out else Home(home).report(grid)
    records = collect(home, grid)
    found = report_records([records])
    report = build(found, grid_pages(home, grid))
    files = write(report, folder, chosen)
    save(records, folder / "records")
    try:
        create_markdown_artifact(
            key="rosita-report", markdown=markdown(report, images=False), description=str(folder)
        )
    except Exception as error:
        warn(f"Prefect's server has no page of the report: {error_line(error)}")
    return as_json(report, found, files)


def show_in_prefect(home: Path, document: dict[str, Any]) -> None:
    """Show a grid as pages of its flow run: results, report, plots. It is complete without them.

    Where nothing was computed, the report is on the pages of the run that computed it.
    """
    name, cells = document["grid"], document["cells"]
    finished = sum(cell["status"] == "finished" for cell in cells)
    try:
        create_table_artifact(
            key="rosita-grid",
            table=result_rows(document),
            description=f"{name}: {finished} of {len(cells)} cells finished",
        )
        if not document["stages"]["computed"]:
            return
        from flows.reports.build import report_for_prefect

        text, plots = report_for_prefect(collect(home, name), grid_pages(home, name))
        create_markdown_artifact(key="rosita-grid-report", markdown=text, description=name)
        for title, png in plots:
            image = base64.b64encode(png).decode("ascii")
            create_image_artifact(
                key=f"rosita-grid-{_slug(title)}",
                image_url=f"data:image/png;base64,{image}",
                description=f"{name}: {title}",
            )
    except Exception as error:
        warn(f"Prefect's server has no report of the grid: {error_line(error)}")


def _slug(title: str) -> str:
    """Lower-case letters, digits and dashes, as Prefect wants keys."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
