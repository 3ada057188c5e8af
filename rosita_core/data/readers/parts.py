"""A user's own file, read some rows at a time, so that memory does not grow with it.

What is read, and what is wrong with it, is the same as in `files.py`. An array of JSON, and a data
set that `datasets` saved, are read whole all the same and handed on in parts.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rosita_core.data.messages import some
from rosita_core.data.readers.files import (
    check_values,
    collect,
    ending_of,
    not_jsonl,
    read_columns,
    read_objects,
)
from rosita_core.data.table import GZIP, Columns, not_utf8


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
        for found in _parts(self.path, list(self.columns), size):
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
    for found in _parts(path, sorted(set(wanted.values())), size):
        if repeated := [name for name in found.present if found.present.count(name) > 1]:
            raise ValueError(f"{path} must have each column once, got {repeated[0]!r} twice")
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


def _parts(path: Path, wanted: list[str], size: int) -> Iterator[Columns]:
    """The wanted columns that there are, at most `size` rows at a time; one part at least."""
    if path.is_dir():
        from rosita_core.data.readers.folders import is_saved, parquet_files

        if not is_saved(path):
            first: Columns | None = None
            for shard in parquet_files(path, ()):
                for part in _parquet(shard, wanted, size):
                    first = first or part
                    if (part.present, part.classes) != (first.present, first.classes):
                        raise ValueError(
                            f"{shard} must have the columns and classes of the first file in "
                            f"{path}, got others"
                        )
                    yield part
            return
        ending = ""
    else:
        ending = ending_of(path)
    if ending in _READERS:
        yield from _READERS[ending](path, wanted, size)
        return
    whole = read_columns(path, wanted, ())
    rows = max((len(values) for values in whole.values.values()), default=0)
    for start in range(0, max(rows, 1), size):
        values = {name: column[start : start + size] for name, column in whole.values.items()}
        yield Columns(whole.present, values, whole.classes)


@contextmanager
def _opened(path: Path, newline: str) -> Iterator[TextIO]:
    """The text of a file, which may be gzipped, without a byte-order mark."""
    with path.open("rb") as file:
        zipped = file.read(len(GZIP)) == GZIP
        file.seek(0)
        raw: Any = gzip.GzipFile(fileobj=file) if zipped else file
        try:
            yield io.TextIOWrapper(raw, encoding="utf-8-sig", newline=newline)
        except UnicodeDecodeError:
            raise _undecodable(path, zipped) from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path} must be a whole gzip file, got: {error}") from None


def _undecodable(path: Path, zipped: bool) -> ValueError:
    """Where in a file the byte is that is not UTF-8."""
    before = 0
    with gzip.open(path) if zipped else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return not_utf8(path, line[error.start], number, before + error.start)
            before += len(line)
    raise AssertionError(f"{path} was UTF-8 the second time")


def _grouped(
    path: Path,
    header: list[str],
    rows: Iterator[tuple[int, list[str]]],
    wanted: list[str],
    size: int,
) -> Iterator[Columns]:
    yield collect(path, header, iter(islice(rows, size)), wanted)
    while part := list(islice(rows, size)):
        yield collect(path, header, iter(part), wanted)


def _header(path: Path, fields: Iterable[list[str]], blank: list[str]) -> list[str]:
    for found in fields:
        if found != blank:
            return found
    raise ValueError(f"{path} must have at least 1 row, got an empty file")


def _csv(path: Path, wanted: list[str], size: int) -> Iterator[Columns]:
    # A cell may be a whole document.
    csv.field_size_limit(sys.maxsize)
    with _opened(path, "") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = _header(path, reader, [])
            rows = ((reader.line_num, fields) for fields in reader)
            yield from _grouped(path, header, rows, wanted, size)
        except csv.Error as error:
            raise ValueError(f"{path} must be CSV, got line {reader.line_num}: {error}") from None


def _lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """As `split_lines`."""
    for number, line in enumerate(file, start=1):
        yield number, line.removesuffix("\n").removesuffix("\r")


def _tsv(path: Path, wanted: list[str], size: int) -> Iterator[Columns]:
    with _opened(path, "\n") as file:
        rows = ((number, line.split("\t")) for number, line in _lines(file))
        header = _header(path, (fields for _, fields in rows), [""])
        yield from _grouped(path, header, rows, wanted, size)


def _jsonl(path: Path, wanted: list[str], size: int) -> Iterator[Columns]:
    def parsed(number: int, line: str) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise not_jsonl(path, number, error) from None

    with _opened(path, "\n") as file:
        rows = ((number, parsed(number, line)) for number, line in _lines(file) if line.strip())
        yield read_objects(path, "line", islice(rows, size), wanted)
        while part := list(islice(rows, size)):
            yield read_objects(path, "line", part, wanted)


def _parquet(path: Path, wanted: list[str], size: int) -> Iterator[Columns]:
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            there = [name for name in wanted if name in schema.names]
            noted = b"huggingface" in (schema.metadata or {})
            parts = file.iter_batches(size, columns=there)
            if not file.metadata.num_rows:
                # Its columns and classes are compared with those of other files, all the same.
                own = pa.schema([schema.field(name) for name in there])
                parts = iter([pa.RecordBatch.from_pylist([], schema=own)])
            first = 1
            for batch in parts:
                values = {name: batch.column(name).to_pylist() for name in there}
                found = Columns(list(schema.names), values, {})
                if noted:
                    from rosita_core.data.readers.folders import features_of, with_classes

                    found = with_classes(found, features_of(schema, path), path, first)
                first += batch.num_rows
                yield found
    except (pa.ArrowException, KeyError, OverflowError, UnicodeError) as error:
        cause = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{path} must be a Parquet file, got: {cause}") from None


_READERS: dict[str, Callable[[Path, list[str], int], Iterator[Columns]]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".parquet": _parquet,
}
"""Those that need not be read whole."""
