"""The flow `grid`: the cells of a grid, whose shared stages run once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prefect import flow, runtime
from rich.console import Console
from rich.live import Live

from flows.engine.prefect_loss import achieved
from flows.engine.recording import INTERRUPTED_SECONDS
from flows.grids.board import INTERRUPTED, Board
from flows.grids.cell import CellWork, carry_out
from flows.grids.definition import Cell, Grid
from flows.grids.executors.dask_cluster import Cluster, check_cluster
from flows.grids.executors.processes import Pool, Processes, run_cells
from flows.grids.files import write_definition
from flows.grids.loading import chosen_cells
from flows.grids.plan import GridPlan, limited, plan_grid, prepared
from flows.report import show_in_prefect
from tasks.home import home_directory
from tasks.host.terminal import progress_display
from tasks.tracking.runs import FLUSH_SECONDS, Tracking


class GridError(RuntimeError):
    """Cells failed; `document` is what the grid achieved all the same."""

    def __init__(self, message: str, document: dict[str, Any]) -> None:
        super().__init__(message)
        self.document = document


@flow(name="grid", flow_run_name="{definition.name}", validate_parameters=True)
def grid(
    definition: Grid,
    only: tuple[str, ...] = (),
    max_cells: int | None = None,
    workers: int = 1,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Run the cells of a grid, from the cache where they were computed before.

    Args:
        definition: the grid.
        only: cells, or labels of cells, that are run (see `chosen_cells`); all by default.
        max_cells: at most so many cells that have something to compute.
        workers: cells that run at a time, each in a process of its own.
        cluster: address of a Dask scheduler on whose workers the cells run; "local" starts one of
            `workers` processes.

    Returns what became of every cell. A cell that fails stops no other.

    Raises:
        GridError: once all cells were run, where some failed.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if cluster is not None:
        check_cluster(cluster, workers)
    home = home_directory()
    cells = chosen_cells(definition, only)
    plan = plan_grid(prepared(cells, download=True))
    cells = limited(cells, plan, max_cells)
    plan = plan.of(cells)
    write_definition(home, definition)
    flow_run_id = str(runtime.flow_run.id)
    began = time.monotonic()
    with _tracked(definition, cells[0].recipe.task, flow_run_id) as (tracking, run):
        works = [
            CellWork(
                grid=definition.name,
                cell=cell.id,
                labels=cell.labels,
                recipe=cell.recipe,
                grid_run=run,
                processes=min(workers, len(cells)),
            )
            for cell in cells
        ]
        documents: dict[str, dict[str, Any]] = {}
        board = Board(home, definition.name, cells)

        def ended(cell: str, document: dict[str, Any] | None) -> None:
            board.ended(cell, document)
            # Where the grid goes on, only the cell's own process was sent a signal.
            documents[cell] = document or {"status": INTERRUPTED, "error": "stopped by a signal"}

        if cluster is not None:
            _at_once(works, Cluster(cluster, works[0].processes), plan, board, ended)
        elif works[0].processes > 1:
            _at_once(works, Processes(works[0].processes), plan, board, ended)
        else:
            _one_by_one(works, board, ended)
        finished = [d for d in documents.values() if d["status"] == "finished"]
        numbers = {
            "cells": float(len(cells)),
            "cells_finished": float(len(finished)),
            "seconds": time.monotonic() - began,
        }
        tracking.finish(run, "FINISHED" if len(finished) == len(cells) else "FAILED", numbers, {})
    document = _document(definition, cells, documents, plan, tracking.run_id(run), flow_run_id)
    if finished:
        show_in_prefect(home, document)
    if len(finished) < len(cells):
        failed = [cell for cell, d in documents.items() if d["status"] != "finished"]
        first = documents[failed[0]]["error"]
        raise GridError(
            f"{len(failed)} of {len(cells)} cells of grid {definition.name} failed, first "
            f"{failed[0]}: {first}",
            document,
        )
    return achieved(document)


def _one_by_one(
    works: Sequence[CellWork],
    board: Board,
    ended: Callable[[str, dict[str, Any] | None], None],
) -> None:
    display = progress_display()
    display.header = board.render
    try:
        for work in works:
            board.started(work.cell)
            try:
                document = carry_out(work)
            except BaseException:
                ended(work.cell, None)
                raise
            ended(work.cell, document)
    finally:
        display.header = None


def _at_once(
    works: Sequence[CellWork],
    pool: Pool,
    plan: GridPlan,
    board: Board,
    ended: Callable[[str, dict[str, Any] | None], None],
) -> None:
    def choose(waiting: Sequence[str], running: Sequence[str]) -> str:
        """The cell that shares the least with those that run, so that few wait for another."""
        taken = {stage for cell in running for stage in plan.to_run(cell)}
        return min(waiting, key=lambda cell: len(taken & set(plan.to_run(cell))))

    with _live(board):
        run_cells(works, pool, choose, board.started, ended)


@contextmanager
def _live(board: Board) -> Iterator[None]:
    if not board.terminal:
        yield
        return
    console = Console(stderr=True)
    with Live(get_renderable=board.render, console=console, refresh_per_second=2, transient=True):
        yield


@contextmanager
def _tracked(grid: Grid, task: str, flow_run_id: str) -> Iterator[tuple[Tracking, str]]:
    """The grid's own run, which ends as the block does."""
    tracking = Tracking(home_directory())
    seeds = ", ".join(map(str, grid.seeds))
    values = grid.model_dump(mode="json")
    run = tracking.start_parent(task, grid.name, values, seeds, flow_run_id, None)
    try:
        yield tracking, run
    except BaseException as error:
        failed = isinstance(error, Exception)
        tracking.finish(run, "FAILED" if failed else "KILLED", {}, {})
        tracking.flush(FLUSH_SECONDS if failed else INTERRUPTED_SECONDS)
        raise
    tracking.flush(FLUSH_SECONDS)


def _document(
    grid: Grid,
    cells: Sequence[Cell],
    documents: dict[str, dict[str, Any]],
    plan: GridPlan,
    run_id: str | None,
    flow_run_id: str,
) -> dict[str, Any]:
    fields = (
        *("status", "score", "score_name", "retention", "params", "compression", "run_id"),
        *("mlflow_run_id", "stages", "error"),
    )
    return {
        "grid": grid.name,
        "run_id": flow_run_id,
        "mlflow_run_id": run_id,
        "cells": [
            {"cell": cell.id, "labels": cell.labels, "seed": cell.seed}
            | {name: value for name, value in documents[cell.id].items() if name in fields}
            for cell in cells
        ],
        "stages": {
            "distinct": len(plan.stages),
            "computed": sum(
                not stage["cached"] for d in documents.values() for stage in d.get("stages", ())
            ),
        },
    }
