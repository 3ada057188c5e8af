"""The cells of a running grid on stderr: a live table at a terminal, a line per event elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from flows.grids.definition import Cell
from tasks.host.terminal import progress_display

WAITING, RUNNING, FINISHED, FAILED, INTERRUPTED = (
    "waiting",
    "running",
    "finished",
    "failed",
    "interrupted",
)
# Lines of a terminal that the table leaves to the progress of a stage and to messages.
FREE_LINES = 10
FEWEST_ROWS = 4


@dataclass
class _Row:
    cell: Cell
    status: str = WAITING
    result: str = ""
    began: float = 0.0
    seconds: float | None = None
    stages: list[str] = field(default_factory=list)


class Board:
    """What a person sees of a grid while it runs; told by many threads, each of its own cell."""

    def __init__(self, grid: str, cells: Sequence[Cell]) -> None:
        self._grid = grid
        self._rows = {cell.id: _Row(cell) for cell in cells}
        self._numbers = {cell.id: number for number, cell in enumerate(cells, start=1)}

    def started(self, cell: str) -> None:
        """A cell starts."""
        row = self._rows[cell]
        row.status, row.began = RUNNING, time.monotonic()
        self._line(cell, "started")

    @contextmanager
    def running(self, cell: str, stage: str) -> Iterator[None]:
        """A stage runs in the block, for this cell first."""
        self._rows[cell].stages.append(stage)
        try:
            yield
        finally:
            self._rows[cell].stages.remove(stage)

    def interrupted(self) -> None:
        """What runs was interrupted."""
        for cell, row in self._rows.items():
            if row.status == RUNNING:
                row.status, row.seconds = INTERRUPTED, time.monotonic() - row.began
                self._line(cell, "interrupted")

    def ended(self, cell: str, document: dict[str, Any]) -> None:
        """A cell finished or failed."""
        row = self._rows[cell]
        row.seconds, row.status = time.monotonic() - row.began, document["status"]
        if row.status == FAILED:
            row.result = document["error"]
            self._line(cell, f"failed: {document['error']}")
        else:
            row.result = f"{document['score']:.4f}"
            cached = sum(stage["cached"] for stage in document["stages"])
            self._line(
                cell,
                f"finished in {row.seconds:.0f} s, {document['score_name']} {row.result}, "
                f"{cached} of {len(document['stages'])} stages cached",
            )

    def render(self) -> Table:
        """The table: what runs and what is next to it, as much as fits."""
        rows = list(self._rows.values())
        counts = {s: sum(row.status == s for row in rows) for s in (FINISHED, FAILED, WAITING)}
        said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        table = Table(title=f"{self._grid}: {len(rows)} cells, {said or 'all running'}")
        for name in ("cell", "status", "stage", "score", "time"):
            table.add_column(name, justify="right" if name in ("score", "time") else "left")
        for row in self._window(rows):
            seconds = time.monotonic() - row.began if row.status == RUNNING else row.seconds
            table.add_row(
                row.cell.id,
                row.status,
                ", ".join(row.stages),
                row.result if row.status == FINISHED else "",
                "" if seconds is None else f"{seconds:,.0f} s",
            )
        return table

    def _window(self, rows: list[_Row]) -> list[_Row]:
        room = max(FEWEST_ROWS, shutil.get_terminal_size().lines - FREE_LINES)
        if len(rows) <= room:
            return rows
        at = next((i for i, row in enumerate(rows) if row.status == RUNNING), 0)
        first = min(max(0, at - room // 3), len(rows) - room)
        return rows[first : first + room]

    def _line(self, cell: str, text: str) -> None:
        number, total = self._numbers[cell], len(self._rows)
        progress_display().line(f"cell {number}/{total} {cell}: {text}")
