"""Rows as the `datasets` library keeps them: Parquet files of one or more splits, saved data sets.

A folder of Parquet files has the splits that `datasets` finds in their names, as on the hub
(`train-00000-of-00002.parquet`), or else is one split. A saved data set is what `save_to_disk`
wrote. The names of classes (`ClassLabel`) come with both.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.data_files import DataFilesDict, get_data_patterns

from rosita_core.data.table import Columns
from rosita_core.messages import some

ABOUT, STATE, SAVED_SPLITS = "dataset_info.json", "state.json", "dataset_dict.json"

A_SAVED_ONE = "a data set saved by datasets"
# What damaged files make of the library.
BROKEN = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError),
    pa.ArrowException,
)


class NoSuchSplit(ValueError):
    """A folder of several splits, none of which was meant."""


def is_saved(folder: Path) -> bool:
    """Whether a folder is a data set saved on disk, of one split or several."""
    return (folder / STATE).is_file() or (folder / SAVED_SPLITS).is_file()


def parquet_files(folder: Path, splits: Sequence[str]) -> list[Path]:
    """The Parquet files of one split of a folder, in the order of their rows.

    Args:
        splits: names of the split, the first one that is there; none for folders of one split.

    Raises:
        ValueError: for a folder without Parquet files, with files of which only some name a split,
            or without such a split.
    """
    root = folder.resolve()
    there = [path.relative_to(root) for path in sorted(root.rglob("*.parquet"))]
    # What `datasets` leaves alone, too.
    there = [path for path in there if not any(part.startswith((".", "__")) for part in path.parts)]
    if not there:
        raise ValueError(
            "path must be a file, a folder of Parquet files or a data set saved by datasets, "
            f"got {folder}"
        )
    base = glob.escape(str(root))
    with _whole(folder, "a folder of Parquet files with splits that datasets finds"):
        found = DataFilesDict.from_patterns(
            get_data_patterns(base), base_path=base, allowed_extensions=[".parquet"]
        )
    files = {str(split): [Path(name) for name in names] for split, names in found.items()}
    known = {path for paths in files.values() for path in paths}
    if not known:
        # Of other files alone `datasets` found splits.
        return [root / path for path in there]
    for path in there:
        if root / path not in known:
            raise ValueError(
                f"path must be a folder of Parquet files that all name their split or none, "
                f"got none in {path} of {folder}"
            )
    return files[_chosen(folder, list(files), splits)]


def saved_files(folder: Path, splits: Sequence[str]) -> list[Path]:
    """The files that one split (see `parquet_files`) of a saved data set is read from.

    Raises:
        ValueError: for a folder that is damaged, or without such a split.
    """
    with _whole(folder, A_SAVED_ONE):
        data = _load(folder, splits)
        files = [Path(entry["filename"]) for entry in data.cache_files]
    return [*files, *dict.fromkeys(path.parent / ABOUT for path in files)]


def read_saved(folder: Path, splits: Sequence[str], wanted: Sequence[str]) -> Columns:
    """Columns of one split (see `parquet_files`) of a saved data set.

    Raises:
        ValueError: for a folder that is damaged, or without such a split.
    """
    with _whole(folder, A_SAVED_ONE):
        data = _load(folder, splits)
        there = [name for name in wanted if name in data.column_names]
        # Offsets are not looked at otherwise, and may lead out of the file.
        data.data.table.select(there).validate(full=True)
        table = data.select_columns(there).with_format("arrow")[:]
        values = {name: table.column(name).to_pylist() for name in there}
    return with_classes(Columns(list(data.column_names), values, {}), data.features, folder, 1)


def features_of(schema: pa.Schema, path: Path) -> Mapping[str, Any]:
    """What `datasets` noted of the columns in a Parquet file."""
    with _whole(path, "a Parquet file with columns that datasets reads"):
        return datasets.Features.from_arrow_schema(schema)


def with_classes(found: Columns, features: Mapping[str, Any], path: Path, first: int) -> Columns:
    """The columns with names in place of the indices of classes (`ClassLabel`).

    `first` is the number of the first row.

    Raises:
        ValueError: for an index without a name. -1 says that a row has no class.
    """
    values, classes = dict(found.values), {}
    for name, column in found.values.items():
        feature = features.get(name)
        if not isinstance(feature, datasets.ClassLabel) or not feature.names:
            continue
        classes[name] = tuple(feature.names)
        for row, index in enumerate(column, start=first):
            if index is not None and index not in range(-1, len(feature.names)):
                raise ValueError(
                    f"{name} must be in [0, {len(feature.names) - 1}], an index of its classes, "
                    f"got {index} in row {row} of {path}"
                )
        values[name] = [None if index in (None, -1) else feature.names[index] for index in column]
    return Columns(found.present, values, classes)


def _load(folder: Path, splits: Sequence[str]) -> datasets.Dataset:
    if (folder / SAVED_SPLITS).is_file():
        names = json.loads((folder / SAVED_SPLITS).read_text("utf-8"))["splits"]
        folder = folder / _chosen(folder, [str(name) for name in names], splits)
    # In memory it would not say which files it was read from.
    return datasets.Dataset.load_from_disk(str(folder), keep_in_memory=False)


def _chosen(folder: Path, there: list[str], splits: Sequence[str]) -> str:
    for split in splits:
        if split in there:
            return split
    if len(there) == 1:
        return there[0]
    wanted = f"the split {splits[0]}" if splits else "one split"
    raise NoSuchSplit(f"path must be a folder with {wanted}, got {some(there)} in {folder}")


@contextmanager
def _whole(path: Path, what: str) -> Iterator[None]:
    """Whatever damaged files make of the library, as one line."""
    try:
        yield
    except NoSuchSplit:
        raise
    except BROKEN as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"path must be {what}, got {path}: {cause}") from None
