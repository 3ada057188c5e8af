"""A user's own file, read some rows at a time, so that memory does not grow with it.

What is read, and what is wrong with it, is the same as in `files.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rosita_core.data.readers.files import check_values
from rosita_core.data.readers.formats import column_parts
from rosita_core.data.table import Columns
from rosita_core.messages import some


@dataclass(frozen=True)
class RowFile:
    """A file of rows that has been read once and found to be in order.

    Attributes:
        path: of the file, or of the folder.
        roles: text_a and, where they are read, text_b and label -> their columns.
        columns: names of all columns, in order.
        rows: how many there are.
    """

    path: Path
    roles: Mapping[str, str]
    columns: tuple[str, ...]
    rows: int

    def parts(self, size: int) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        """The rows in their order, at most `size` at a time, each part twice.

        First as columns `text_a`, `text_b` and `label`, as `read_table` gives them; then as all
        columns, as they stand there. Classes with names are these names in both.

        Raises:
            ValueError: as `row_file`, where the file is no longer what it was.
        """
        done = 0
        for found in column_parts(self.path, list(self.columns), (), size):
            _check(self.path, self.roles, found, done + 1)
            beside = {name: pd.Series(found.values[name], dtype=object) for name in self.columns}
            done += len(beside[self.roles["text_a"]])
            texts = {
                role: beside[name] if role == "label" else beside[name].astype("str")
                for role, name in self.roles.items()
            }
            yield pd.DataFrame(texts), pd.DataFrame(beside)
        if done != self.rows:
            raise ValueError(
                f"{self.path} must stay as it is, got {done:,} rows in place of {self.rows:,}"
            )


def row_file(path: Path, text_a: str, text_b: str | None, label: str | None, size: int) -> RowFile:
    """Read a file through, `size` rows at a time, and check every row; see `files.read_table`.

    Args:
        path: as of `read_table`.
        text_a, text_b, label: its columns; None for single texts, and for texts without labels.
        size: rows that are in memory at a time.

    Raises:
        ValueError: as `read_table` does, and for a name that several columns have.
    """
    roles = {"text_a": text_a, "text_b": text_b, "label": label}
    wanted = {role: name for role, name in roles.items() if name is not None}
    present: dict[str, None] = {}
    rows, complaint = 0, None
    for found in column_parts(path, sorted(set(wanted.values())), (), size):
        if repeated := [name for name in found.present if found.present.count(name) > 1]:
            raise ValueError(f"{path} must have each column once, got {repeated[0]!r} twice")
        if path.is_dir() and present and present.keys() != set(found.present):
            raise ValueError(f"{path} must have the same columns in each of its files, got others")
        present.update(dict.fromkeys(found.present))
        if any(name not in found.values for name in wanted.values()):
            break
        if complaint is None:
            try:
                _check(path, wanted, found, rows + 1)
            except ValueError as error:
                # That there is no such column would be the better answer, and shows at the end.
                complaint = error
        rows += len(found.values[text_a])
    for role, name in wanted.items():
        if name not in present:
            raise ValueError(
                f"{role} must name one column of {path} ({some(list(present))}), "
                f"got {name!r} (no such column)"
            )
    if complaint is not None:
        raise complaint
    if not rows:
        raise ValueError(f"{path} must have at least 1 row, got 0")
    return RowFile(path, wanted, tuple(present), rows)


def _check(path: Path, roles: Mapping[str, str], found: Columns, first: int) -> None:
    for role, name in roles.items():
        check_values(path, role, name, found.values[name], first)
