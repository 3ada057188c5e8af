"""What Prefect shows of a grid: its results as a table, the report as a page, plots as images."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from flows.grids.records import collect
from flows.grids.tables import result_rows
from flows.reports.build import report_for_prefect
from tasks.host.logs import warn
from tasks.host.wording import error_line


def publish(home: Path, document: dict[str, Any]) -> None:
    """Add the artifacts to the flow run; the grid is complete without them, too."""
    name, cells = document["grid"], document["cells"]
    finished = sum(cell["status"] == "finished" for cell in cells)
    try:
        create_table_artifact(
            key="rosita-grid",
            table=result_rows(document),
            description=f"{name}: {finished} of {len(cells)} cells finished",
        )
        markdown, plots = report_for_prefect(collect(home, name))
        create_markdown_artifact(key="rosita-grid-report", markdown=markdown, description=name)
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
