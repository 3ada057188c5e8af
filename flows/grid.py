"""The cells of a grid as one DAG: what the flow `grid` does."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import runtime

from flows.engine.executor import Executor
from flows.engine.graph import Graph
from flows.engine.pages import Link, note
from flows.engine.prefect_loss import achieved
from flows.engine.recording import recorded
from flows.grids.board import Board
from flows.grids.cell import GridCell
from flows.grids.definition import Cell, Grid
from flows.grids.files import write_definition
from flows.grids.loading import chosen_cells
from flows.grids.plan import GridPlan, limited, plan_grid, prepared
from flows.recipes.request import Request
from flows.report import show_in_prefect
from tasks.cache.stage_key import config_modules
from tasks.execution.workers import SCHEMES, Workers, own_workers, workers_at
from tasks.home import home_directory
from tasks.host.terminal import progress_display
from tasks.host.wording import counted
from tasks.stages.catalogue import catalogue
from tasks.tracking.runs import FLUSH_SECONDS, Tracking


class GridError(RuntimeError):
    """Cells failed; `document` is what the grid achieved all the same."""

    def __init__(self, message: str, document: dict[str, Any]) -> None:
        super().__init__(message)
        self.document = document


@dataclass(frozen=True)
class GridRequest:
    """A grid with everything checked that can be before computing.

    Attributes:
        definition: the grid.
        cells: that run.
        requests: of the cells, by their ids.
        plan: of these cells.
        only, max_cells: by which they were chosen (see `grid_request`).
        workers: processes of this machine that compute stages; 1 for this process alone.
        cluster: address of a Dask scheduler on whose workers they are computed instead.
    """

    definition: Grid
    cells: tuple[Cell, ...]
    requests: dict[str, Request]
    plan: GridPlan
    only: tuple[str, ...]
    max_cells: int | None
    workers: int
    cluster: str | None


def grid_request(
    definition: Grid,
    only: Sequence[str] = (),
    max_cells: int | None = None,
    workers: int = 1,
    cluster: str | None = None,
    download: bool = True,
) -> GridRequest:
    """What a grid is asked to do.

    Args:
        definition: the grid.
        only: cells, or labels of cells, that are run (see `chosen_cells`); all by default.
        max_cells: at most so many cells that have something to compute.
        workers, cluster: see `GridRequest`.
        download: whether data may be fetched to be checked.

    Raises:
        ValueError: naming the field, the bound and the value.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if max_cells is not None and max_cells < 1:
        raise ValueError(f"max_cells must be at least 1, got {max_cells}")
    if cluster is not None:
        if not cluster.startswith(SCHEMES):
            raise ValueError(
                f"cluster must be the address of a Dask scheduler such as tcp://host:8786, "
                f"got {cluster!r}"
            )
        if workers > 1:
            raise ValueError(f"workers must be left to the cluster at {cluster}, got {workers}")
    cells = chosen_cells(definition, tuple(only))
    requests = prepared(cells, download)
    plan = plan_grid(requests)
    requests = {cell: requests[cell] for cell in limited(plan, max_cells)}
    cells, plan = tuple(cell for cell in cells if cell.id in requests), plan.of(requests)
    if workers > 1:
        _check_workers(plan.graph, workers)
    return GridRequest(
        *(definition, cells, requests, plan, tuple(only), max_cells, workers, cluster)
    )


def _check_workers(graph: Graph, workers: int) -> None:
    """Workers share the GPUs of the machine, and leave none to one stage alone."""
    for vertex in graph.vertices.values():
        if vertex.processes > 1:
            raise ValueError(
                f"workers must be 1 where numerics.processes is above 1, got {workers} and "
                f"{vertex.processes}"
            )
        if vertex.numerics.device.startswith("cuda:"):
            raise ValueError(
                f"workers must be 1 where numerics.device is one GPU, got {workers} and "
                f"{vertex.numerics.device}"
            )


def grid(asked: GridRequest) -> dict[str, Any]:
    """Run the stages of a grid's cells, from the cache where they were computed before.

    Returns what became of every cell. A stage that fails stops only what reads from it.

    Raises:
        GridError: once all is run, where cells failed.
        WorkersError: where the cluster cannot compute these stages.
    """
    definition, cells, graph = asked.definition, asked.cells, asked.plan.graph
    home, flow_run_id = home_directory(), str(runtime.flow_run.id)
    began, tracking, board = time.monotonic(), Tracking(home), Board(definition.name, cells)
    with _workers(asked, home) as workers:
        write_definition(home, definition)
        run = tracking.start_parent(
            cells[0].recipe.of_problem,
            definition.name,
            definition.model_dump(mode="json"),
            ", ".join(map(str, definition.seeds)),
            flow_run_id,
            None,
        )
        base = Path(definition.base).stem
        said = f"Grid {definition.name}: {counted(len(cells), 'cell')} of recipe {base}."
        tracking.log_tags(run, note(home, said, flow_run_id))
        link = Link(tracking, run, definition.name)
        runs = {
            cell.id: GridCell(
                definition.name,
                cell,
                asked.requests[cell.id],
                # A flow run that Prefect retries finds the summaries of its cells where they were.
                (str(uuid.uuid5(uuid.UUID(flow_run_id), cell.id)), flow_run_id),
                run,
                board,
                link,
            )
            for cell in cells
        }
        executor = Executor(graph, runs, flow_run_id)
        with recorded(tracking, runs, run), _shown(board):
            executor.run(workers)
        failed = [cell for cell, one in runs.items() if one.error is not None]
        numbers = {
            "cells": float(len(cells)),
            "cells_finished": float(len(cells) - len(failed)),
            "seconds": time.monotonic() - began,
        }
        tracking.finish(run, "FAILED" if failed else "FINISHED", numbers, {})
        tracking.flush(FLUSH_SECONDS)
    computed = sum(not done.cached for done in executor.done.values())
    document = _document(asked, runs, computed, tracking.run_id(run), flow_run_id)
    if len(failed) < len(cells):
        show_in_prefect(home, document)
    if failed:
        raise GridError(
            f"{len(failed)} of {len(cells)} cells of grid {definition.name} failed, first "
            f"{failed[0]}: {runs[failed[0]].error}",
            document,
        )
    return achieved(document)


def _workers(asked: GridRequest, home: Path) -> AbstractContextManager[Workers | None]:
    vertices = asked.plan.graph.vertices.values()
    if asked.cluster is not None:
        code = {module for one in vertices for module in catalogue()[one.name].code}
        code.update(*(config_modules(one.node.config) for one in vertices))
        return workers_at(
            *(asked.cluster, home, tuple(sorted(code))),
            hardware={one.numerics.device: one.numerics.hardware for one in vertices},
            processes=max(one.processes for one in vertices),
        )
    if asked.workers > 1:
        return own_workers(min(asked.workers, len(vertices)), home)
    return nullcontext()


@contextmanager
def _shown(board: Board) -> Iterator[None]:
    """The board above the stages that run."""
    display = progress_display()
    display.header = board.render
    try:
        yield
    except BaseException:
        board.interrupted()
        raise
    finally:
        display.header = None


def _document(
    asked: GridRequest,
    runs: dict[str, GridCell],
    computed: int,
    run_id: str | None,
    flow_run_id: str,
) -> dict[str, Any]:
    fields = (
        *("status", "score", "score_name", "retention", "params", "compression", "run_id"),
        *("mlflow_run_id", "stages", "error"),
    )
    return {
        "grid": asked.definition.name,
        "run_id": flow_run_id,
        "mlflow_run_id": run_id,
        "cells": [
            {"cell": cell.id, "labels": cell.labels, "seed": cell.seed}
            | {name: value for name, value in runs[cell.id].document.items() if name in fields}
            for cell in asked.cells
        ],
        "stages": {"distinct": len(asked.plan.stages), "computed": computed},
    }
