"""A user's own data: CSV, TSV, JSONL or Parquet with named columns.

CSV is quoted as in RFC 4180. TSV is not quoted at all, as is usual for sentences: a quote is a
character of the text. Rows are counted from 1, without the header.
"""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rosita_core.data.table import Table, normalized_frame, read_utf8, split_lines, text_columns
from rosita_core.data.task_spec import Kind

_Columns = tuple[list[str], dict[str, list[Any]]]
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_table(path: Path, text_a: str, text_b: str | None, label: str | None) -> pd.DataFrame:
    """Read the named columns of a file as `text_a`, `text_b` and `label` (as it stands there).

    path: ends in .csv, .tsv, .jsonl or .parquet.
    text_b: None for single texts. label: None for texts without labels.

    Raises ValueError for a missing file, an unsupported ending, a missing column (naming those
    that exist), text that is not UTF-8, a null or empty text or label (naming the row), and a
    file without rows.
    """
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"path must end in one of {', '.join(_READERS)}, got {path}")
    if not path.is_file():
        raise ValueError(f"path must be an existing file, got {path}")
    roles = {"text_a": text_a, "text_b": text_b, "label": label}
    wanted = {role: name for role, name in roles.items() if name is not None}
    present, columns = _READERS[path.suffix.lower()](path, sorted(set(wanted.values())))
    for role, name in wanted.items():
        if present.count(name) != 1:
            found = "no such column" if name not in present else "more than one"
            raise ValueError(
                f"{role} must name one column of {path} ({', '.join(present)}), "
                f"got {name!r} ({found})"
            )
    if not columns[text_a]:
        raise ValueError(f"{path} must have at least 1 row, got 0")
    for role, name in wanted.items():
        _check_values(path, role, name, columns[name])
    return pd.DataFrame(
        {
            role: pd.Series(columns[name], dtype=object if role == "label" else "str")
            for role, name in wanted.items()
        }
    )


def labels_to_index(train_labels: Sequence[Any]) -> tuple[str, ...]:
    """The class names of own data in index order: sorted, by value if all of them are numbers."""
    names = {label_name(value) for value in train_labels}
    if all(_NUMBER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    return tuple(sorted(names))


def label_name(value: object) -> str:
    """The class name of a label; 1, 1.0 and "1" are one class, whatever the file format."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def normalize(raw: pd.DataFrame, kind: Kind, labels: tuple[str, ...]) -> Table:
    """Turn the frame of `read_table` into a normalized table.

    labels: class names in index order, from the training data; empty for regression.
    Raises ValueError (naming the row) for a class that is not among `labels`, or for a regression
    label that is not a finite number.
    """
    values = raw["label"].tolist()
    if kind == "regression":
        encoded = [_number(value, row) for row, value in enumerate(values, start=1)]
    else:
        index = {name: position for position, name in enumerate(labels)}
        for row, value in enumerate(values, start=1):
            if label_name(value) not in index:
                raise ValueError(
                    f"label must be one of the training data's ({', '.join(labels)}), "
                    f"got {label_name(value)!r} in row {row}"
                )
        encoded = [index[label_name(value)] for value in values]
    texts = [raw[name].tolist() for name in text_columns(raw)]
    return Table(
        normalized_frame(texts[0], texts[1] if len(texts) > 1 else None, encoded, kind), {}
    )


def _number(value: object, row: int) -> float:
    text = str(value)
    number = float(text) if _NUMBER.fullmatch(text.strip()) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"label must be a finite number for regression, got {text!r} in row {row}")
    return number


def _check_values(path: Path, role: str, name: str, values: list[Any]) -> None:
    for row, value in enumerate(values, start=1):
        where = f"in row {row} of {path}"
        if value is None or (isinstance(value, float) and math.isnan(value)):
            raise ValueError(f"{role} ({name!r}) must not be null, got null {where}")
        if role == "label":
            if isinstance(value, (list, dict, bytes)):
                raise ValueError(
                    f"label ({name!r}) must be text or a number, got {type(value).__name__} {where}"
                )
        elif not isinstance(value, str):
            raise ValueError(f"{role} ({name!r}) must be text, got {type(value).__name__} {where}")
        if isinstance(value, str):
            if not value.strip():
                raise ValueError(f"{role} ({name!r}) must not be empty, got {value!r} {where}")
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError(
                    f"{role} ({name!r}) must be valid Unicode, got {value!r} {where}"
                ) from None


def _collect(
    path: Path, header: list[str], rows: Iterator[tuple[int, list[str]]], wanted: list[str]
) -> _Columns:
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
    return header, columns


def _read_csv(path: Path, wanted: list[str]) -> _Columns:
    reader = csv.reader(io.StringIO(read_utf8(path), newline=""), strict=True)
    try:
        header = next(fields for fields in reader if fields)
        rows = ((reader.line_num, fields) for fields in reader)
        return _collect(path, header, rows, wanted)
    except csv.Error as error:
        raise ValueError(f"{path} must be CSV, got line {reader.line_num}: {error}") from None


def _read_tsv(path: Path, wanted: list[str]) -> _Columns:
    lines = split_lines(read_utf8(path))
    rows = ((number, line.split("\t")) for number, line in enumerate(lines, start=1))
    header = next(fields for _, fields in rows if fields != [""])
    return _collect(path, header, rows, wanted)


def _read_jsonl(path: Path, wanted: list[str]) -> _Columns:
    present: dict[str, None] = {}
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    for number, line in enumerate(split_lines(read_utf8(path)), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} must be JSONL, got line {number}: {error}") from None
        if (found := type(row).__name__) != "dict":
            raise ValueError(
                f"{path} must hold one JSON object a line, got {found} in line {number}"
            )
        present.update(dict.fromkeys(row))
        for name in wanted:
            columns[name].append(row.get(name))
    return list(present), columns


def _read_parquet(path: Path, wanted: list[str]) -> _Columns:
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            present = list(schema.names)
            table = file.read(columns=[name for name in wanted if name in present])
        # Through Python values, because pandas turns integers with a null into floats.
        columns = {name: table.column(name).to_pylist() for name in set(table.column_names)}
    except (pa.ArrowException, KeyError) as error:
        cause = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{path} must be a Parquet file, got: {cause}") from None
    return present, _with_class_names(path, schema, columns)


def _with_class_names(
    path: Path, schema: pa.Schema, columns: dict[str, list[Any]]
) -> dict[str, list[Any]]:
    """The columns with the names of classes that the datasets library left in the metadata."""
    if b"huggingface" not in (schema.metadata or {}):
        return columns
    # Here, because it takes a second to import.
    from datasets import ClassLabel, Features

    try:
        features = Features.from_arrow_schema(schema)
        return {
            name: _named(values, features[name].names)
            if isinstance(features[name], ClassLabel)
            else values
            for name, values in columns.items()
        }
    # Whatever the metadata holds, it was written by others.
    except Exception as error:
        raise ValueError(
            f"{path} must have classes that its metadata names, got {type(error).__name__}: {error}"
        ) from None


def _named(values: list[Any], names: list[str]) -> list[str | None]:
    """Classes by name; datasets writes -1 where there is none."""
    known = {None: None, -1: None} | dict(enumerate(names))
    return [known[value] for value in values]


_READERS: dict[str, Callable[[Path, list[str]], _Columns]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
