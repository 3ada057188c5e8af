"""A user's own data: CSV, TSV, JSON, JSONL or Parquet with named columns, or a folder of such rows.

Rows are counted from 1, without the header. `formats.py` says what each format holds.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rosita_core.class_names import NUMBER, is_blank, label_name, labels_to_index
from rosita_core.data.readers.formats import column_parts, is_unicode
from rosita_core.data.table import Columns, Table, normalized_frame, text_columns
from rosita_core.data.task_spec import Kind
from rosita_core.messages import brief, is_a_line, some

TRAIN_SPLITS: tuple[str, ...] = ("train",)
DEV_SPLITS: tuple[str, ...] = ("validation", "dev", "valid", "val")
"""What the split may be called where a folder holds several."""


def read_table(
    path: Path, text_a: str, text_b: str | None, label: str | None, splits: Sequence[str]
) -> pd.DataFrame:
    """Read the named columns of a file as `text_a`, `text_b` and `label` (as it stands there).

    path: a file or folder as of `formats.column_parts`.
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
    parts = list(column_parts(path, sorted(set(wanted.values())), splits, None))
    found = Columns(
        parts[0].present,
        {name: [v for part in parts for v in part.values[name]] for name in parts[0].values},
        parts[0].classes,
    )
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
    """The classes of the labels that `read_table` found in training data, in index order.

    Raises ValueError for one that cannot name an output of a model.
    """
    if isinstance(labels.dtype, pd.CategoricalDtype):
        classes = tuple(labels.dtype.categories)
    else:
        classes = labels_to_index(labels.tolist())
    for name in classes:
        if not is_a_line(name):
            raise ValueError(f"label must have a name in a line for each class, got {name!r}")
    return classes


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
    index = {name: position for position, name in enumerate(labels)}
    encoded = encoded_labels(raw["label"].tolist(), kind, index, "the training data's", 1)
    texts = [raw[name].tolist() for name in text_columns(raw)]
    return Table(
        normalized_frame(texts[0], texts[1] if len(texts) > 1 else None, encoded, kind), {}
    )


def encoded_labels(
    values: list[Any], kind: Kind, index: Mapping[str, int], whose: str, first: int
) -> list[int] | list[float]:
    """Labels as they stand there as numbers, or as indices of their classes; see `normalize`.

    `index` has the names of the classes as `label_name` gives them, and `whose` says whose they
    are. `first` is the number of the first row.
    """
    if kind == "regression":
        return [_number(value, row) for row, value in enumerate(values, start=first)]
    names = [label_name(value) for value in values]
    for row, name in enumerate(names, start=first):
        if name not in index:
            raise ValueError(
                f"label must be one of {whose} ({some(list(index))}), "
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
