"""A report as one page that opens from a file: no network, images inside, light and dark."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flows.reports.parts import Report, rows_of

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    # Whatever the ending: names and labels of users are texts.
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.globals["rows_of"] = rows_of


def page(report: Report, images: dict[str, str]) -> str:
    """The page. images: the SVG text of every plot, by its name."""
    encoded = {name: base64.b64encode(svg.encode()).decode() for name, svg in images.items()}
    return TEMPLATES.get_template("page.html.j2").render(report=report, images=encoded)
