"""The report as a flow writes it: into the home, and as a page of Prefect's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact

from flows.grids.records import collect, save
from flows.reports.build import as_json, build, check_formats, write
from flows.reports.markdown import markdown
from flows.reports.records import report_records
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
    chosen = check_formats(formats)
    home = home_directory()
    folder = Path(out) if out else Home(home).report(grid)
    records = collect(home, grid)
    found = report_records([records])
    report = build(found)
    files = write(report, folder, chosen)
    save(records, folder / "records")
    try:
        create_markdown_artifact(
            key="rosita-report", markdown=markdown(report, images=False), description=str(folder)
        )
    except Exception as error:
        warn(f"Prefect's server has no page of the report: {error_line(error)}")
    return as_json(report, found, files)
