"""The report of a grid, made from the records of finished cells and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flows.grids.records import GridRecords
from flows.reports.curves import curve_plots
from flows.reports.differences import against_teacher, differences
from flows.reports.headline import environment, headline, in_words, methods
from flows.reports.heads import head_plots
from flows.reports.markdown import PLOTS, markdown
from flows.reports.methods import method_plots, method_table
from flows.reports.page import page
from flows.reports.parts import Plot, Report, Section, Table, rows_of, text_column
from flows.reports.plots import score_plots, time_plot
from flows.reports.records import Records, report_records
from flows.reports.tables import every_cell, paper_tables, results, stage_times
from rosita_core.data.spreadsheet import spreadsheet_safe

TABLES = "tables"
WRITTEN = (f"{PLOTS}/*.png", f"{TABLES}/*.csv", f"{TABLES}/*.parquet")
"""What a report leaves in its folders."""
LIST = ".report.json"
"""Names those files, so that the next report replaces them and no others."""
FORMATS = ("markdown", "html", "tables")


def build(records: Records, links: Mapping[str, str] | None = None) -> Report:
    """Compute everything that a report says; `links` are to the runs (see `Report`)."""
    measured = results(records)
    pairs, teacher = differences(records), against_teacher(records)
    comparisons = tuple(table for table in (pairs, teacher) if table is not None)
    several = len(records.families) > 1
    by_method = method_table(records)
    methodical: list[Plot] = []
    scores: list[Plot] = []
    trainings: list[Plot] = []
    for number, family in enumerate(records.families, start=1):
        suffix = f"_{number}" if several else ""
        scores += _named(score_plots(records, family, suffix), family, several)
        methodical += _named(method_plots(records, family, suffix), family, several)
        curves = curve_plots(records, family, suffix) + head_plots(records, family, suffix)
        trainings += _named(curves, family, several)
    sections = [
        Section("Results", (), (measured, *scores)),
        Section("Methods", (), (*([] if by_method is None else [by_method]), *methodical)),
        Section("The paper's tables", (), tuple(paper_tables(records))),
        Section("Which differ", () if pairs is None else in_words(pairs), comparisons),
        Section("Trainings", (), tuple(trainings)),
        Section("Time", (), (stage_times(records), time_plot(records))),
        Section("Cells", (), (every_cell(records),)),
        Section(
            "Methods and environment",
            methods(records, bool(comparisons)),
            (_facts(records),),
        ),
    ]
    return Report(
        title=f"Report of {records.name}",
        headline=headline(records, measured, pairs),
        sections=tuple(s for s in sections if s.parts or s.text),
        links=links or {},
    )


def check_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The formats; raises ValueError for an unknown one."""
    for name in names:
        if name not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {name!r}")
    return tuple(names)


def write(report: Report, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write the report into `folder`; returns the files.

    Plots and tables of an earlier report there are replaced.

    Raises:
        ValueError: for a folder that cannot be written.
    """
    with written_into(folder):
        return _write(report, folder, formats)


@contextmanager
def written_into(folder: Path) -> Iterator[None]:
    """What the block writes lies in the folder of `--out`, which is made.

    Raises:
        ValueError: where it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        place = error.filename or folder
        raise ValueError(
            f"out must be a folder that can be written, got {place}: {error.strerror}"
        ) from None


def _write(report: Report, folder: Path, formats: Sequence[str]) -> list[Path]:
    from flows.reports.style import png, style, svg

    files: dict[Path, bytes] = {}
    images: dict[str, str] = {}
    with style():
        for plot in report.plots:
            figure = plot.draw()
            if "markdown" in formats:
                files[folder / PLOTS / f"{plot.name}.png"] = png(figure)
            if "html" in formats:
                images[plot.name] = svg(figure)
    if "markdown" in formats:
        files[folder / "report.md"] = markdown(report, images=True).encode()
    if "html" in formats:
        files[folder / "report.html"] = page(report, images).encode()
    if "tables" in formats:
        for table in report.tables:
            text = spreadsheet_safe(table.frame).to_csv(index=False, lineterminator="\n")
            files[folder / TABLES / f"{table.name}.csv"] = text.encode()
    for old in _left_by_a_report(folder):
        old.unlink()
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    written = list(files)
    if "tables" in formats:
        for table in report.tables:
            path = folder / TABLES / f"{table.name}.parquet"
            table.frame.to_parquet(path, index=False)
            written.append(path)
    names = [path.relative_to(folder).as_posix() for path in written if path.parent != folder]
    (folder / LIST).write_text(json.dumps(sorted(names), indent=1) + "\n", encoding="utf-8")
    return written


def _left_by_a_report(folder: Path) -> list[Path]:
    """Plots and tables of an earlier report; other files in the folder are the user's own."""
    try:
        names = json.loads((folder / LIST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    there = [path for pattern in WRITTEN for path in folder.glob(pattern)]
    return [path for path in there if path.relative_to(folder).as_posix() in names]


def report_for_prefect(
    grid: GridRecords, links: Mapping[str, str] | None = None
) -> tuple[str, list[tuple[str, bytes]]]:
    """The report as Markdown without images, and its plots as (title, PNG)."""
    from flows.reports.style import png, style

    report = build(report_records([grid]), links)
    with style():
        plots = [(plot.title, png(plot.draw())) for plot in report.plots]
    return markdown(report, images=False), plots


def as_json(report: Report, records: Records, files: Sequence[Path]) -> dict[str, Any]:
    """The report for programs: the answer, all tables, the files."""
    return {
        "grid": records.name,
        "headline": list(report.headline),
        "missing": dict(records.missing),
        "tables": {
            table.name: [
                {name: _plain(value) for name, value in row.items()} for row in rows_of(table.frame)
            ]
            for table in report.tables
        },
        "files": [str(path) for path in files],
    }


def _plain(value: Any) -> Any:
    """A value that JSON has; a missing number is null."""
    return None if pd.isna(value) else value.item() if isinstance(value, np.generic) else value


def _named(plots: list[Plot], family: str, several: bool) -> list[Plot]:
    if not several:
        return plots
    return [Plot(p.name, f"{p.title}: {family}", p.caption, p.draw) for p in plots]


def _facts(records: Records) -> Table:
    frame = pd.DataFrame(environment(records), columns=["fact", "value"])
    shown = (text_column("fact", "fact"), text_column("value", "value"))
    return Table("environment", "Environment", "", frame, shown)
