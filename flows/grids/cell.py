"""One cell of a grid: its run, and the file that remembers it."""

from __future__ import annotations

import importlib.metadata
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from flows.engine.pages import Link
from flows.engine.recording import CellRun, Done
from flows.engine.summary import summary_document
from flows.grids.board import Board
from flows.grids.definition import Cell
from flows.grids.files import cell_path, is_of, read_cell
from flows.recipes.request import Request
from tasks.cache.stage_key import library_versions
from tasks.host.hardware import git_commit, hardware
from tasks.host.logs import noted
from tasks.store.artifacts import write_json

NUMERIC = ("torch", "transformers")


class GridCell(CellRun):
    """The run of a cell below its grid's run; a board shows it.

    Attributes:
        document: what is known of it; its status is running, finished or failed.
    """

    registers = False

    def __init__(
        self,
        grid: str,
        cell: Cell,
        request: Request,
        ids: tuple[str, str],
        grid_run: str,
        board: Board,
        link: Link,
    ) -> None:
        """Prepare a run.

        Args:
            grid: its name.
            cell, request: of the recipe.
            ids: of the cell's run, and of Prefect's flow run.
            grid_run: the handle of the grid's tracked run.
            board: that shows it.
            link: to the grid's run, for the page of the flow run.
        """
        super().__init__(request, *ids)
        self.cell = f"{grid}/{cell.id}"
        self._grid, self._of, self._grid_run = grid, cell, grid_run
        self._board = board
        self.link = link
        self.document = _document(grid, cell) | {"flow_run_id": self.flow_run_id}

    def start(self) -> str:
        """Open the tracked run below the grid's; its handle."""
        recipe, tracking = self.request.recipe, self.tracking
        values, shape = recipe.model_dump(mode="json"), self.request.goal
        run = tracking.start_parent(
            *(recipe.of_problem, recipe.name, values, recipe.seed, self.flow_run_id, shape),
            *(self._grid_run, self._of.id),
        )
        tracking.log_params(run, {f"axis.{axis}": label for axis, label in self._of.labels.items()})
        # Of the cells alone: where the grid's own run is found as well, pages fold them below it.
        tracking.log_tags(run, {"rosita.grid": self._grid, "rosita.cell": self._of.id})
        self.document["started"] = _now()
        self._board.started(self._of.id)
        return run

    def running(self, name: str) -> AbstractContextManager[None]:
        return self._board.running(self._of.id, name)

    def tell_hit(self, done: Done) -> None:
        """The cell's own line counts them."""

    def end(self, error: str | None) -> None:
        """Record it, and write its file."""
        super().end(error)
        home, before = self.request.home, read_cell(self.request.home, self._grid, self._of.id)
        if self.error is None:
            self.document |= self._finished(summary_document(home, self.run_id))
        else:
            self.document |= {"status": "failed", "finished": _now(), "error": self.error}
        # What was measured stays true when a later run fails to measure it again.
        if self.error is None or not (
            before is not None and before["status"] == "finished" and is_of(before, self._of.recipe)
        ):
            with noted(f"what became of cell {self._of.id}"):
                write_json(cell_path(home, self._grid, self._of.id), self.document)
        self._board.ended(self._of.id, self.document)

    def _finished(self, summary: dict[str, Any]) -> dict[str, Any]:
        return {
            "status": "finished",
            "finished": _now(),
            "run_id": summary["run_id"],
            "mlflow_run_id": summary["mlflow_run_id"],
            "mlflow_uri": summary["mlflow_uri"],
            "grid_run_id": self.tracking.run_id(self._grid_run),
            "score": summary["student"]["score"],
            "score_name": summary["score_name"],
            "retention": summary["retention"],
            "compression": summary["compression"],
            "params": summary["student"]["params"],
            "stages": [
                {
                    "name": name,
                    "key": result.key,
                    "artifact": result.artifact,
                    "seconds": result.seconds,
                    "attempt": result.attempt,
                    "cached": cached,
                }
                for name, (result, cached) in self.results.items()
            ],
        }


def _document(grid: str, cell: Cell) -> dict[str, Any]:
    return {
        "grid": grid,
        "cell": cell.id,
        "labels": cell.labels,
        "seed": cell.recipe.seed,
        "recipe": cell.recipe.model_dump(mode="json"),
        "status": "running",
        "started": None,
        "git_commit": git_commit(),
        "hardware": hardware(),
        "versions": library_versions(NUMERIC)
        | {name: importlib.metadata.version(name) for name in ("prefect", "mlflow")},
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
