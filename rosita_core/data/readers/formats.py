"""What each format holds: CSV, TSV, JSONL, JSON and Parquet as columns, some rows at a time.

CSV is quoted as in RFC 4180. TSV is not quoted at all, as is usual for sentences: a quote is a
character of the text. What is text may be gzipped. Class names that come with a file (`ClassLabel`
of the `datasets` library) are its labels. JSON, and a data set that `datasets` saved, are read
whole all the same and handed on in parts.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from rosita_core.data.table import GZIP, Columns, not_utf8, read_utf8
from rosita_core.messages import some


def column_parts(
    path: Path, wanted: list[str], splits: Sequence[str], size: int | None
) -> Iterator[Columns]:
    """The wanted columns that a file has, or a folder's split: one part at least.

    Args:
        path: ends in .csv, .tsv, .jsonl, .ndjson or .json, with or without .gz, or in .parquet; or
            a folder of Parquet files, or one that `datasets` saved.
        splits: names of the split that is read from a folder of several (see
            `folders.parquet_files`).
        size: rows of a part at most; None for one part of each file.

    Raises:
        ValueError: for a missing file, an unsupported ending, content that is not of the format,
            and files of a folder with other columns or classes than its first.
    """
    try:
        folder = path.is_dir()
    except OSError as error:
        raise ValueError(f"path must be an existing file, got {path}: {error.strerror}") from None
    if not folder:
        yield from _READERS[ending_of(path)](path, wanted, size)
        return
    from rosita_core.data.readers.folders import is_saved, parquet_files, read_saved

    if is_saved(path):
        yield from _sliced(read_saved(path, splits, wanted), size)
        return
    first: Columns | None = None
    shards = parquet_files(path, splits)
    for shard in shards:
        for part in _parquet(shard, wanted, size):
            first = first or part
            if (part.values.keys(), part.classes) != (first.values.keys(), first.classes):
                raise ValueError(
                    f"{shard} must have the columns and classes of {shards[0]}, got others"
                )
            yield part


def ending_of(path: Path) -> str:
    """What a file that is there ends in, without .gz."""
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    if ending not in _READERS or (ending == ".parquet" and path.suffix.lower() != ending):
        raise ValueError(
            f"path must end in one of {', '.join(_READERS)}, or in .gz after one of them that is "
            f"text, or be a folder, got {path}"
        )
    if not path.is_file():
        raise ValueError(f"path must be an existing file, got {path}")
    return ending


def is_unicode(text: str) -> bool:
    """Whether a text can be written down: it has no half of a letter."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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


def _numbered_lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """As `split_lines`."""
    for number, line in enumerate(file, start=1):
        yield number, line.removesuffix("\n").removesuffix("\r")


def _groups(rows: Iterator[Any], size: int | None) -> Iterator[list[Any]]:
    """The rows in lists of `size`, one at least."""
    yield list(islice(rows, size))
    while part := list(islice(rows, size)):
        yield part


def _fields(
    path: Path,
    header: list[str],
    rows: Iterator[tuple[int, list[str]]],
    wanted: list[str],
    size: int | None,
) -> Iterator[Columns]:
    """The wanted columns of rows of fields, each with its line."""
    positions = {name: header.index(name) for name in wanted if name in header}
    for part in _groups(rows, size):
        columns: dict[str, list[Any]] = {name: [] for name in positions}
        for line, fields in part:
            if fields in ([], [""]):
                # A blank line is nothing between rows, but an empty text where there is one column.
                if len(header) > 1:
                    continue
                fields = [""]
            if len(fields) != len(header):
                raise ValueError(
                    f"{path} must have {len(header)} fields in each row, "
                    f"got {len(fields)} in line {line}"
                )
            for name, position in positions.items():
                columns[name].append(fields[position])
        yield Columns(header, columns, {})


def _header(path: Path, fields: Iterable[list[str]], blank: list[str]) -> list[str]:
    for found in fields:
        if found != blank:
            return found
    raise _empty(path)


def _empty(path: Path) -> ValueError:
    return ValueError(f"{path} must have at least 1 row, got an empty file")


def _csv(path: Path, wanted: list[str], size: int | None) -> Iterator[Columns]:
    # Python refuses cells above 131,072 characters; a cell may be a whole document.
    csv.field_size_limit(sys.maxsize)
    with _opened(path, "") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = _header(path, reader, [])
            rows = ((reader.line_num, fields) for fields in reader)
            yield from _fields(path, header, rows, wanted, size)
        except csv.Error as error:
            raise ValueError(f"{path} must be CSV, got line {reader.line_num}: {error}") from None


def _tsv(path: Path, wanted: list[str], size: int | None) -> Iterator[Columns]:
    with _opened(path, "\n") as file:
        rows = ((number, line.split("\t")) for number, line in _numbered_lines(file))
        header = _header(path, (fields for _, fields in rows), [""])
        yield from _fields(path, header, rows, wanted, size)


def _jsonl(path: Path, wanted: list[str], size: int | None) -> Iterator[Columns]:
    def parsed(number: int, line: str) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} must be JSONL, got line {number}: {error}") from None

    with _opened(path, "\n") as file:
        lines = _numbered_lines(file)
        rows = ((number, parsed(number, line)) for number, line in lines if line.strip())
        for part in _groups(rows, size):
            if not part:
                raise _empty(path)
            yield _objects(path, "line", part, wanted)


def _json(path: Path, wanted: list[str], size: int | None) -> Iterator[Columns]:
    """An array of objects (maybe the `data` of an object), an object of columns, or JSONL."""
    text = read_utf8(path)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", None) != "Extra data":
            raise ValueError(f"{path} must be JSON, got: {error}") from None
        yield from _jsonl(path, wanted, size)
        return
    if isinstance(document, dict):
        if all(isinstance(document.get(name), (list, dict)) for name in wanted):
            yield from _sliced(_columns(path, document, wanted), size)
            return
        document = document.get("data", [document])
    if not isinstance(document, list):
        found = type(document).__name__
        raise ValueError(f"{path} must hold an array of objects, got {found}")
    yield from _sliced(_objects(path, "row", enumerate(document, start=1), wanted), size)


def _objects(path: Path, unit: str, rows: Iterable[tuple[int, Any]], wanted: list[str]) -> Columns:
    """The wanted columns of objects, each with its number as a `unit`; null where one has none."""
    present: dict[str, None] = {}
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    for number, row in rows:
        if (found := type(row).__name__) != "dict":
            raise ValueError(
                f"{path} must hold one JSON object a {unit}, got {found} in {unit} {number}"
            )
        present.update(dict.fromkeys(row))
        for name in wanted:
            columns[name].append(row.get(name))
    for name in present:
        if not is_unicode(name):
            raise ValueError(f"{path} must have columns with names in Unicode, got {name!r}")
    return Columns(list(present), columns, {})


def _columns(path: Path, document: dict[str, Any], wanted: list[str]) -> Columns:
    """Columns of values, or of values by row as pandas writes them."""
    rows = [list(document[name]) for name in wanted if isinstance(document[name], dict)]
    values = {
        name: list(column.values()) if isinstance(column := document[name], dict) else column
        for name in wanted
    }
    if len({len(column) for column in values.values()}) > 1 or any(r != rows[0] for r in rows):
        raise ValueError(f"{path} must have the same rows in {some(wanted)}, got others")
    count = len(values[wanted[0]])
    # What else stands in the document is no column.
    present = [n for n, v in document.items() if isinstance(v, list | dict) and len(v) == count]
    return Columns(present, values, {})


def _sliced(whole: Columns, size: int | None) -> Iterator[Columns]:
    rows = max((len(values) for values in whole.values.values()), default=0)
    size = size or max(rows, 1)
    for start in range(0, max(rows, 1), size):
        values = {name: column[start : start + size] for name, column in whole.values.items()}
        yield Columns(whole.present, values, whole.classes)


def _parquet(path: Path, wanted: list[str], size: int | None) -> Iterator[Columns]:
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            there = [name for name in wanted if name in schema.names]
            noted = b"huggingface" in (schema.metadata or {})
            rows = file.metadata.num_rows
            parts = file.iter_batches(size or max(rows, 1), columns=there)
            if not rows:
                # Its columns and classes are compared with those of other files, all the same.
                own = pa.schema([schema.field(name) for name in there])
                parts = iter([pa.RecordBatch.from_pylist([], schema=own)])
            first = 1
            for batch in parts:
                # Through Python values, because pandas turns integers with a null into floats.
                values = {name: batch.column(name).to_pylist() for name in there}
                found = Columns(list(schema.names), values, {})
                if noted:
                    from rosita_core.data.readers.folders import features_of, with_classes

                    found = with_classes(found, features_of(schema, path), path, first)
                first += batch.num_rows
                yield found
    # pyarrow says OSError of damaged pages.
    except (pa.ArrowException, OSError, KeyError, OverflowError, UnicodeError) as error:
        cause = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{path} must be a Parquet file, got: {cause}") from None


_READERS: dict[str, Callable[[Path, list[str], int | None], Iterator[Columns]]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".ndjson": _jsonl,
    ".json": _json,
}
