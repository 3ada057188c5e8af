"""A grid's plan and its results, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from flows.engine.pages import pages
from flows.grids.definition import Cell, Grid
from flows.grids.plan import GridPlan, GridStage
from flows.planning.stage_states import CACHED
from flows.recipes.request import Request
from tasks.home import home_directory
from tasks.host.console import console
from tasks.host.wording import duration


def plan_document(grid: Grid, cells: Sequence[Cell], plan: GridPlan) -> dict[str, Any]:
    """The plan as JSON-able values."""
    return {
        "grid": grid.name,
        "cells": [
            {
                "cell": cell.id,
                "labels": cell.labels,
                "seed": cell.seed,
                "stages": list(plan.graph.cells[cell.id].values()),
                "to_run": len(plan.to_run(cell.id)),
            }
            for cell in cells
        ],
        "stages": [
            {
                "id": id_,
                "name": stage.name,
                "key": stage.key,
                "status": stage.status,
                "cells": list(stage.vertex.cells),
                "seconds": stage.seconds,
                "estimate": "" if stage.estimate is None else stage.estimate.source,
            }
            for id_, stage in plan.stages.items()
        ],
        "distinct_stages": len(plan.stages),
        "cached": sum(stage.status == CACHED for stage in plan.stages.values()),
        "seconds": plan.seconds,
        "stages_without_estimate": len(plan.unknown),
    }


def plan_line(grid: Grid, cells: Sequence[Cell], plan: GridPlan) -> str:
    """The plan of the cells that will run, in one line."""
    count, missing = len(plan.stages), plan.missing
    return (
        f"{grid.name}: {len(cells)} cells, {count} distinct stages, {count - len(missing)} of them "
        f"cached; {_time(missing)}"
    )


def show_grid_plan(
    grid: Grid, cells: Sequence[Cell], requests: Mapping[str, Request], plan: GridPlan
) -> None:
    """Cells, then the stages by name with how many are cached and what the rest takes."""
    out = console()
    table = Table(title=f"{grid.name}: {len(cells)} cells from {grid.base}")
    for name in ("cell", *grid.axes, "seed", "student", "to compute"):
        table.add_column(name, overflow="fold")
    for cell in cells:
        shape = requests[cell.id].goal
        what = ", ".join(plan.to_run(cell.id)) or "nothing: cached"
        table.add_row(cell.id, *cell.labels.values(), str(cell.seed), shape, what)
    out.print(table)
    out.print(stage_table("distinct stages", plan))
    print(plan_line(grid, cells, plan))


def stage_table(title: str, plan: GridPlan) -> Table:
    """A row per kind of stage: how many are cached, and what the others take."""
    table = Table(title=title)
    for name in ("stage", "distinct", "cached", "time", "one takes", "from"):
        table.add_column(name, justify="left" if name in ("stage", "from") else "right")
    for name, count in Counter(stage.name for stage in plan.stages.values()).items():
        missing = [stage for stage in plan.missing if stage.name == name]
        times = _row(missing) if missing else ("", "", "")
        table.add_row(name, str(count), str(count - len(missing)), *times)
    return table


def show_grid(document: dict[str, Any]) -> None:
    """A row per cell, and what was computed."""
    rows = result_rows(document)
    table = Table(title=document["grid"])
    for name in rows[0]:
        right = name in ("seed", "score", "retention", "params", "compression")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    console().print(table)
    stages = document["stages"]
    print(f"{stages['computed']} stages computed, {stages['distinct']} needed by the cells.")
    if document["mlflow_run_id"] is not None:
        print(f"MLflow run:      {document['mlflow_run_id']}")
    else:
        print("MLflow does not answer: `rosita sync` sends what is kept")
    found = pages(home_directory(), document["mlflow_run_id"], document["run_id"])
    for server, page in found.items():
        print(f"{f'at {server}:':<17}{page}")
    if not found:
        print("to see the runs: rosita ui")


def result_rows(document: dict[str, Any]) -> list[dict[str, str]]:
    """A row per cell, as text."""
    rows = []
    for cell in document["cells"]:
        row = {"cell": cell["cell"], **cell["labels"], "seed": str(cell["seed"])}
        row["status"] = cell["status"]
        for name, form in (
            ("score", "{:.4f}"),
            ("retention", "{:.1%}"),
            ("params", "{:,}"),
            ("compression", "{:.2f}x"),
        ):
            value = cell.get(name)
            row[name] = "" if value is None else form.format(value)
        rows.append(row)
    return rows


def _time(missing: Sequence[GridStage]) -> str:
    if not missing:
        return "nothing to compute"
    known = [stage.seconds for stage in missing if stage.seconds is not None]
    unknown = [stage.name for stage in missing if stage.seconds is None]
    parts = []
    if known:
        parts.append(f"about {duration(sum(known))} for {len(known)} by earlier attempts")
    if unknown:
        named = ", ".join(dict.fromkeys(unknown))
        parts.append(f"unknown time for {len(unknown)} ({named})")
    return "; ".join(parts)


def _row(stages: Sequence[GridStage]) -> tuple[str, str, str]:
    """Their time in all, the time of one, and where the longest one's is from."""
    known = [(stage.seconds, stage) for stage in stages if stage.seconds is not None]
    if not known:
        why = stages[0].estimate.source if stages[0].estimate else ""
        return "unknown", "", why
    times = [seconds for seconds, _ in known]
    low, high = duration(min(times)), duration(max(times))
    longest = max(known, key=lambda found: found[0])[1].estimate
    total = duration(sum(times))
    if len(known) < len(stages):
        total = f"{total} and {len(stages) - len(known)} unknown"
    one = low if low == high else f"{low} to {high}"
    return total, one, longest.source if longest else ""
