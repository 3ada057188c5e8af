"""One cell of a grid: a recipe's whole run, and the file that remembers it."""

from __future__ import annotations

import importlib.metadata
import traceback
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from prefect import State, flow, runtime
from pydantic import BaseModel, ConfigDict

from flows.engine.checks import prepare_request
from flows.engine.nodes import numerics_of
from flows.engine.prefect_loss import achieved, forget, hidden, last_achieved
from flows.engine.recording import record_run, tracked, unrecorded
from flows.engine.run import Run, StageError
from flows.engine.summary import read_summary
from flows.grids.files import cell_path, is_of, read_cell, running_path
from flows.method import Node
from flows.recipes.schema import Recipe
from tasks.cache.stage_key import library_versions
from tasks.execution.attempt import Context
from tasks.home import home_directory
from tasks.host.hardware import ResolvedNumerics, git_commit, hardware
from tasks.host.wording import error_line
from tasks.store.artifacts import write_json

LIBRARIES = ("prefect", "mlflow")
NUMERIC = ("torch", "transformers")


class CellWork(BaseModel):
    """A cell as the work of a process.

    Attributes:
        grid: name of the grid.
        cell: id of the cell.
        labels: axis -> label.
        recipe: complete.
        grid_run: handle of the grid's tracked run.
        processes: how many cells run at a time, which share the cores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grid: str
    cell: str
    labels: dict[str, str]
    recipe: Recipe
    grid_run: str
    processes: int

    @property
    def name(self) -> str:
        """Unique among all grids of a home."""
        return f"{self.grid}/{self.cell}"


@flow(name="grid-cell", flow_run_name="{work.grid}/{work.cell}", validate_parameters=True)
def grid_cell(work: CellWork) -> dict[str, Any]:
    """The whole method by the cell's recipe, below the grid's run; returns the summary."""
    request = prepare_request(work.recipe, download=True)
    flow_run_id = str(runtime.flow_run.id)
    with tracked(request, flow_run_id, work.grid_run, work.cell) as (tracking, parent):
        tracking.log_params(parent, {f"axis.{axis}": label for axis, label in work.labels.items()})
        # Of the cells alone: where the grid's own run is found as well, pages fold them below it.
        tracking.log_tags(parent, {"rosita.grid": work.grid, "rosita.cell": work.cell})
        numerics = _shared(numerics_of(work.recipe), work)
        run = _CellRun(work, request, numerics, tracking, parent, flow_run_id)
        run.all_stages(frozenset())
        try:
            record_run(run, register=False)
        except Exception as error:
            raise unrecorded(error, request, flow_run_id) from error
    summary = read_summary(request.home, flow_run_id)
    attempts = {name: result.attempt for name, (result, _) in run.results.items()}
    for stage in summary["stages"]:
        stage["attempt"] = attempts[stage["name"]]
    return achieved(summary)


def carry_out(work: CellWork) -> dict[str, Any]:
    """Run a cell; its document, which is also written, says whether it finished or failed.

    Interruptions go on to the caller; they leave what the cell's file says as it was.
    """
    home = home_directory()
    running = running_path(home, work.grid, work.cell)
    document = _document(work)
    write_json(running, document)
    forget()
    try:
        document |= _finished(grid_cell(work))
    except Exception as error:
        # Prefect's server may be gone when all is done and written.
        summary = last_achieved()
        document |= _failed(error) if summary is None else _finished(summary)
    finally:
        running.unlink(missing_ok=True)
        forget()
    before = read_cell(home, work.grid, work.cell)
    # What was measured stays true when a later run fails to measure it again.
    measured = before is not None and before["status"] == "finished" and is_of(before, work.recipe)
    if document["status"] == "finished" or not measured:
        write_json(cell_path(home, work.grid, work.cell), document)
    return document


class _CellRun(Run):
    """Says in the cell's file which stage is running, for whoever watches."""

    def __init__(self, work: CellWork, *args: Any) -> None:
        super().__init__(*args)
        self.cell = work.name
        self._work = work
        self._document = _document(work)

    def stage(self, node: Node, artifacts: Mapping[str, str], again: bool) -> State:
        write_json(
            running_path(self.request.home, self._work.grid, self._work.cell),
            self._document | {"stage": node.name},
        )
        return super().stage(node, artifacts, again)

    def tell_hit(self, context: Context, name: str) -> None:
        """The cell's own line counts them."""


def _document(work: CellWork) -> dict[str, Any]:
    return {
        "grid": work.grid,
        "cell": work.cell,
        "labels": work.labels,
        "seed": work.recipe.seed,
        "recipe": work.recipe.model_dump(mode="json"),
        "status": "running",
        "started": _now(),
        "git_commit": git_commit(),
        "hardware": hardware(),
        "versions": library_versions(NUMERIC)
        | {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def _finished(summary: dict[str, Any]) -> dict[str, Any]:
    fields = ("name", "key", "artifact", "seconds", "attempt")
    return {
        "status": "finished",
        "finished": _now(),
        "run_id": summary["run_id"],
        "mlflow_run_id": summary["mlflow_run_id"],
        "score": summary["student"]["score"],
        "score_name": summary["score_name"],
        "retention": summary["retention"],
        "compression": summary["compression"],
        "params": summary["student"]["params"],
        "stages": [
            {field: stage[field] for field in fields} | {"cached": stage["status"] == "cached"}
            for stage in summary["stages"]
        ],
    }


def _shared(numerics: ResolvedNumerics, work: CellWork) -> ResolvedNumerics:
    """Numerics of one of several processes: a thread count that was left open is divided."""
    if work.recipe.numerics.threads != "auto":
        return numerics
    return replace(numerics, threads=max(1, numerics.threads // work.processes))


def _failed(error: Exception) -> dict[str, Any]:
    known = hidden(error, StageError)
    failed: dict[str, Any] = {"status": "failed", "finished": _now()}
    if known is not None:
        return failed | {"error": str(known)}
    trace = "".join(traceback.format_exception(error)).splitlines()
    return failed | {"error": error_line(error), "traceback": trace}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
