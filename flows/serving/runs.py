"""What there is in a home: finished runs with their models, and runs that have not finished."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from flows.serving.lookup import summaries
from tasks.cache.records import attempts
from tasks.home import Home
from tasks.host.console import console
from tasks.host.liveness import attempt_state
from tasks.host.wording import duration
from tasks.stages.catalogue import catalogue

COMPLETED = "completed"


@dataclass(frozen=True)
class Listed:
    """A run.

    Attributes:
        name: of the run, or grid and cell; that of its recipe where it has not finished.
        state: finished, or what became of the last attempt of one that has not.
        shape, score_name, score, retention: of its model; None where there is none.
        registered: address of its version in the registry.
        seconds: since it ended, or began where it has not.
        run_id, mlflow_run_id: as every command takes them.
    """

    name: str
    state: str
    shape: str | None
    score_name: str | None
    score: float | None
    retention: float | None
    registered: str | None
    seconds: float
    run_id: str
    mlflow_run_id: str | None


def list_runs(home: Path) -> list[Listed]:
    """Finished runs, the newest first, and before them those that have not finished."""
    finished = [
        Listed(
            name=one.name or one.recipe,
            state="finished",
            shape=None if one.student is None else one.student.shape,
            score_name=one.score_name,
            score=None if one.student is None else one.student.score,
            retention=one.retention,
            registered=None if one.registered_model is None else one.registered_model.uri,
            seconds=time.time() - Home(home).summary(one.run_id).stat().st_mtime,
            run_id=one.run_id,
            mlflow_run_id=one.mlflow_run_id,
        )
        for one in summaries(home)
    ]
    return [*_unfinished(home, {one.run_id for one in finished}), *finished]


def _unfinished(home: Path, finished: set[str]) -> list[Listed]:
    newest: dict[str | None, dict[str, Any]] = {}
    records = [record for stage in catalogue() for record in attempts(home, stage)]
    for record in sorted(records, key=lambda one: str(one["started"])):
        newest[record["flow_run_id"]] = record
    found = []
    for run_id, record in newest.items():
        state = attempt_state(record)
        if run_id is None or run_id in finished or state == COMPLETED:
            continue
        began = datetime.fromisoformat(record["started"]).timestamp()
        found.append(
            Listed(
                name=record["recipe"],
                state=f"{record['stage']} {state}",
                shape=None,
                score_name=None,
                score=None,
                retention=None,
                registered=None,
                seconds=time.time() - began,
                run_id=run_id,
                mlflow_run_id=None,
            )
        )
    return found[::-1]


def show_runs(runs: list[Listed], home: Path) -> None:
    """A line per run."""
    out = console()
    if not runs:
        out.print(Text(f"no runs in {home}; `rosita compress --recipe demo` makes one"))
        return
    table = Table(title=f"runs in {home}")
    for name in ("run", "id", "state", "model"):
        # An id is there to be copied.
        table.add_column(name, overflow="fold", no_wrap=name == "id")
    for name in ("score", "kept", "ago"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in runs:
        table.add_row(
            Text(one.name),
            one.run_id,
            Text(one.state if one.registered is None else one.registered),
            one.shape or "",
            "" if one.score is None else f"{one.score:.4f}",
            "" if one.retention is None else f"{100 * one.retention:.1f} %",
            duration(one.seconds),
        )
    out.print(table)
