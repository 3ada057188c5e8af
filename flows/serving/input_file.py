"""Texts that a user gives: their columns, and their rows a part at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from rosita_core.data.readers.parts import RowFile, row_file
from rosita_core.export import COLUMNS
from rosita_core.messages import named
from rosita_core.model.locate import config_of
from rosita_core.training.progress import Progress
from tasks.host.terminal import progress_display

PART_ROWS = 4096
"""So many rows are in memory at a time."""
USUAL = {"text_a": "text", "text_b": "text_b", "label": "label"}
"""What columns are called where a model does not know those of its recipe."""
OPTIONS = {
    "path must": "input must",
    "text_a must name": "text_a must name",
    "text_b must name": "text_b_column must name",
    "label must": "label must",
}


class Source(Protocol):
    """Texts; a `RowFile` is one, and so are those that somebody has typed.

    Attributes:
        roles: text_a and, where they are read, text_b and label -> their columns.
        columns: names of all columns, in order.
        rows: how many there are.
    """

    @property
    def roles(self) -> Mapping[str, str]: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def rows(self) -> int: ...

    def parts(self, size: int) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        """The rows by their roles, and with all their columns; at most `size` at a time."""


@dataclass(frozen=True)
class Typed:
    """Texts of a command line or of standard input.

    Attributes:
        frame: columns `text_a` and, for pairs, `text_b`.
    """

    frame: pd.DataFrame

    @property
    def roles(self) -> Mapping[str, str]:
        return {name: USUAL[name] for name in self.frame.columns}

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.roles.values())

    @property
    def rows(self) -> int:
        return len(self.frame)

    def parts(self, size: int) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        """See `Source`."""
        for start in range(0, self.rows, size):
            part = self.frame.iloc[start : start + size].reset_index(drop=True)
            yield part, part.rename(columns=self.roles)


def input_file(
    path: Path,
    model: Path,
    text_a: str | None,
    text_b: str | None,
    label: str | None,
    labelled: bool,
) -> RowFile:
    """The rows of a file, all of them checked, by the columns of the recipe that made the model.

    Args:
        path: the file; see `rosita_core.data.readers.files.read_table`.
        model: the exported folder; one that knows no columns is asked as `USUAL`.
        text_a, text_b, label: columns that a user names instead.
        labelled: whether labels are read.

    Raises:
        ValueError: in the words of the command's options, naming what is wrong.
    """
    config = config_of(model)
    noted = config.get(COLUMNS) or {}
    if not isinstance(noted, dict) or not all(isinstance(name, str) for name in noted.values()):
        raise ValueError(
            f"model must have {COLUMNS} of names of columns, got {noted!r:.80} in {model}"
        )
    known: dict[str, Any] = USUAL | noted
    if not config.get("text_pair"):
        known["text_b"] = None
    asked = known | {
        role: name
        for role, name in (("text_a", text_a), ("text_b", text_b), ("label", label))
        if name is not None
    }
    with named("input", OPTIONS):
        return row_file(
            path,
            asked["text_a"],
            asked["text_b"],
            asked["label"] if labelled else None,
            PART_ROWS,
        )


@contextmanager
def counted(title: str, unit: str, total: int) -> Iterator[Callable[[int], None]]:
    """Something that counts: yields what is to be told how many are done.

    A terminal shows it meanwhile; elsewhere there is a line now and then.
    """
    row = progress_display().row(title, unit)
    try:
        yield lambda done: row.update(Progress(done, total, {}, None, None))
    finally:
        row.close()
