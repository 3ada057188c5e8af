"""A user's own data: CSV, TSV, JSON, JSONL or Parquet with named columns, or a folder of such rows.

CSV is quoted as in RFC 4180. TSV is not quoted at all, as is usual for sentences: a quote is a
character of the text. Rows are counted from 1, without the header. What is text may be gzipped.
Class names that come with a file (`ClassLabel` of the `datasets` library) are its labels.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rosita_core.data.labels import NUMBER, is_blank, label_name, labels_to_index
from rosita_core.data.messages import brief, some
from rosita_core.data.table import (
    Columns,
    Table,
    normalized_frame,
    read_utf8,
    split_lines,
    text_columns,
)
from rosita_core.data.task_spec import Kind

TRAIN_SPLITS: tuple[str, ...] = ("train",)
DEV_SPLITS: tuple[str, ...] = ("validation", "dev", "valid", "val")
"""What the split may be called where a folder holds several."""


def read_table(
    path: Path, text_a: str, text_b: str | None, label: str | None, splits: Sequence[str]
) -> pd.DataFrame:
    """Read the named columns of a file as `text_a`, `text_b` and `label` (as it stands there).

    path: ends in .csv, .tsv, .jsonl, .ndjson or .json, with or without .gz, or in .parquet; or a
    folder of Parquet files, or one that `datasets` saved.
    text_b: None for single texts. label: None for texts without labels; of classes with names of
    their own a categorical column.
    splits: names of the split that is read from a folder of several (see `folders.parquet_files`).

    Raises ValueError for a missing file, an unsupported ending, a missing column (naming those
    that exist), text that is not UTF-8, a null or empty text or label (naming the row), and a
    file without rows.
    """
    path = Path(path)
    roles = {"text_a": text_a, "text_b": text_b, "label": label}
    wanted = {role: name for role, name in roles.items() if name is not None}
    found = read_columns(path, sorted(set(wanted.values())), splits)
    for role, name in wanted.items():
        if found.present.count(name) != 1:
            why = "no such column" if name not in found.present else "more than one"
            raise ValueError(
                f"{role} must name one column of {path} ({some(found.present)}), "
                f"got {name!r} ({why})"
            )
    if not found.values[text_a]:
        raise ValueError(f"{path} must have at least 1 row, got 0")
    for role, name in wanted.items():
        check_values(path, role, name, found.values[name], 1)
    return pd.DataFrame(
        {
            role: _labels(found, name)
            if role == "label"
            else pd.Series(found.values[name], dtype="str")
            for role, name in wanted.items()
        }
    )


def table_files(path: Path, splits: Sequence[str]) -> list[Path]:
    """The files whose content decides what `read_table` finds, in their order.

    Raises ValueError where there are none.
    """
    if not path.is_dir():
        if not path.is_file():
            raise ValueError(f"path must be an existing file, got {path}")
        return [path]
    # Here, because `datasets` takes a second to import and most sources do not need it.
    from rosita_core.data.readers.folders import is_saved, parquet_files, saved_files

    return saved_files(path, splits) if is_saved(path) else parquet_files(path, splits)


def class_order(labels: pd.Series) -> tuple[str, ...]:
    """The classes of the labels that `read_table` found in training data, in index order."""
    if isinstance(labels.dtype, pd.CategoricalDtype):
        return tuple(labels.dtype.categories)
    return labels_to_index(labels.tolist())


def read_columns(path: Path, wanted: list[str], splits: Sequence[str]) -> Columns:
    """The wanted columns of a file, or of the folder's split; see `read_table`."""
    if path.is_dir():
        from rosita_core.data.readers.folders import is_saved, parquet_files, read_saved

        if is_saved(path):
            return read_saved(path, splits, wanted)
        return _read_shards(parquet_files(path, splits), wanted)
    return _READERS[ending_of(path)](path, wanted)


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


def _labels(found: Columns, name: str) -> pd.Series:
    if name not in found.classes:
        return pd.Series(found.values[name], dtype=object)
    names = dict.fromkeys(map(label_name, found.classes[name]))
    return pd.Series(map(label_name, found.values[name]), dtype=pd.CategoricalDtype(list(names)))


def normalize(raw: pd.DataFrame, kind: Kind, labels: tuple[str, ...]) -> Table:
    """Turn the frame of `read_table` into a normalized table.

    labels: class names in index order, from the training data; empty for regression.
    Raises ValueError (naming the row) for a class that is not among `labels`, or for a regression
    label that is not a finite number.
    """
    encoded = encoded_labels(raw["label"].tolist(), kind, labels, 1)
    texts = [raw[name].tolist() for name in text_columns(raw)]
    return Table(
        normalized_frame(texts[0], texts[1] if len(texts) > 1 else None, encoded, kind), {}
    )


def encoded_labels(
    values: list[Any], kind: Kind, labels: tuple[str, ...], first: int
) -> list[int] | list[float]:
    """Labels as they stand there as numbers, or as indices of their classes; see `normalize`.

    `first` is the number of the first row.
    """
    if kind == "regression":
        return [_number(value, row) for row, value in enumerate(values, start=first)]
    index = {name: position for position, name in enumerate(labels)}
    names = [label_name(value) for value in values]
    for row, name in enumerate(names, start=first):
        if name not in index:
            raise ValueError(
                f"label must be one of the training data's ({some(labels)}), "
                f"got {brief(repr(name))} in row {row}"
            )
    return [index[name] for name in names]


def _number(value: object, row: int) -> float:
    text = str(value)
    number = float(text) if NUMBER.fullmatch(text.strip()) else math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"label must be a finite number for regression, got {brief(repr(text))} in row {row}"
        )
    return number


def check_values(path: Path, role: str, name: str, values: list[Any], first: int) -> None:
    """Refuse what is no text, or no label; `first` is the number of the first row."""
    for row, value in enumerate(values, start=first):
        where = f"in row {row} of {path}"
        if value is None or (isinstance(value, float) and math.isnan(value)):
            raise ValueError(f"{role} ({name!r}) must not be null, got null {where}")
        if isinstance(value, float) and math.isinf(value):
            raise ValueError(f"{role} ({name!r}) must be finite, got {value} {where}")
        if role == "label":
            if isinstance(value, (list, dict, bytes)):
                raise ValueError(
                    f"label ({name!r}) must be text or a number, got {type(value).__name__} {where}"
                )
        elif not isinstance(value, str):
            raise ValueError(f"{role} ({name!r}) must be text, got {type(value).__name__} {where}")
        if isinstance(value, str):
            if is_blank(value):
                raise ValueError(
                    f"{role} ({name!r}) must not be empty, got {brief(repr(value))} {where}"
                )
            if not is_unicode(value):
                raise ValueError(
                    f"{role} ({name!r}) must be valid Unicode, got {brief(repr(value))} {where}"
                )


def is_unicode(text: str) -> bool:
    """Whether a text can be written down: it has no half of a letter."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def collect(
    path: Path, header: list[str], rows: Iterator[tuple[int, list[str]]], wanted: list[str]
) -> Columns:
    """The wanted columns of rows of fields, each with its line."""
    positions = {name: header.index(name) for name in wanted if name in header}
    columns: dict[str, list[Any]] = {name: [] for name in positions}
    for line, fields in rows:
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
    return Columns(header, columns, {})


def _read_csv(path: Path, wanted: list[str]) -> Columns:
    text = read_utf8(path)
    # Python refuses cells above 131,072 characters; a cell may be a whole document.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(fields for fields in reader if fields)
        rows = ((reader.line_num, fields) for fields in reader)
        return collect(path, header, rows, wanted)
    except csv.Error as error:
        raise ValueError(f"{path} must be CSV, got line {reader.line_num}: {error}") from None


def _read_tsv(path: Path, wanted: list[str]) -> Columns:
    lines = split_lines(read_utf8(path))
    rows = ((number, line.split("\t")) for number, line in enumerate(lines, start=1))
    header = next(fields for _, fields in rows if fields != [""])
    return collect(path, header, rows, wanted)


def _read_jsonl(path: Path, wanted: list[str]) -> Columns:
    return _read_lines(path, read_utf8(path), wanted)


def _read_lines(path: Path, text: str, wanted: list[str]) -> Columns:
    def parsed(number: int, line: str) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise not_jsonl(path, number, error) from None

    lines = enumerate(split_lines(text), start=1)
    rows = ((number, parsed(number, line)) for number, line in lines if line.strip())
    return read_objects(path, "line", rows, wanted)


def not_jsonl(path: Path, line: int, error: Exception) -> ValueError:
    """What is said of a line that is not JSON."""
    return ValueError(f"{path} must be JSONL, got line {line}: {error}")


def _read_json(path: Path, wanted: list[str]) -> Columns:
    """An array of objects (maybe the `data` of an object), an object of columns, or JSONL."""
    text = read_utf8(path)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", None) == "Extra data":
            return _read_lines(path, text, wanted)
        raise ValueError(f"{path} must be JSON, got: {error}") from None
    if isinstance(document, dict):
        if all(isinstance(document.get(name), (list, dict)) for name in wanted):
            return _read_columns(path, document, wanted)
        document = document.get("data", [document])
    if not isinstance(document, list):
        found = type(document).__name__
        raise ValueError(f"{path} must hold an array of objects, got {found}")
    return read_objects(path, "row", enumerate(document, start=1), wanted)


def read_objects(
    path: Path, unit: str, rows: Iterable[tuple[int, Any]], wanted: list[str]
) -> Columns:
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


def _read_columns(path: Path, document: dict[str, Any], wanted: list[str]) -> Columns:
    """Columns of values, or of values by row as pandas writes them."""
    rows = [list(document[name]) for name in wanted if isinstance(document[name], dict)]
    values = {
        name: list(column.values()) if isinstance(column := document[name], dict) else column
        for name in wanted
    }
    if len({len(column) for column in values.values()}) > 1 or any(r != rows[0] for r in rows):
        raise ValueError(f"{path} must have the same rows in {some(wanted)}, got others")
    return Columns(list(document), values, {})


def _read_shards(paths: list[Path], wanted: list[str]) -> Columns:
    parts = [_read_parquet(path, wanted) for path in paths]
    first = parts[0]
    for path, part in zip(paths, parts, strict=True):
        if part.values.keys() != first.values.keys() or part.classes != first.classes:
            raise ValueError(f"{path} must have the columns and classes of {paths[0]}, got others")
    values = {name: [v for part in parts for v in part.values[name]] for name in first.values}
    return Columns(first.present, values, first.classes)


def _read_parquet(path: Path, wanted: list[str]) -> Columns:
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            table = file.read(columns=[name for name in wanted if name in schema.names])
        # Through Python values, because pandas turns integers with a null into floats.
        values = {name: table.column(name).to_pylist() for name in set(table.column_names)}
    except (pa.ArrowException, KeyError, OverflowError, UnicodeError) as error:
        cause = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{path} must be a Parquet file, got: {cause}") from None
    found = Columns(list(schema.names), values, {})
    if b"huggingface" not in (schema.metadata or {}):
        return found
    from rosita_core.data.readers.folders import features_of, with_classes

    return with_classes(found, features_of(schema, path), path, 1)


_READERS: dict[str, Callable[[Path, list[str]], Columns]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
}
