"""The normalized table: what every source turns into and every later stage reads.

Columns `text_a` (text), for pairs also `text_b`, and `label`: int64 class index for
classification, float64 for regression. The index counts rows from 0; messages for people count
rows from 1.
"""

import gzip
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rosita_core.class_names import plain
from rosita_core.data.task_spec import Kind

GZIP = b"\x1f\x8b"


@dataclass(frozen=True, eq=False)
class Table:
    """A normalized frame, and how many rows of its source were left out, by reason."""

    frame: pd.DataFrame
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class Columns:
    """What a reader found in a source.

    Attributes:
        present: names of all columns.
        values: by name, of the columns that were asked for and are there, as they stand there.
        classes: by name, of the columns whose values are indices of classes: these, in order.
    """

    present: list[str]
    values: dict[str, list[Any]]
    classes: Mapping[str, tuple[str, ...]]


def normalized_frame(
    text_a: Sequence[str],
    text_b: Sequence[str] | None,
    label: Sequence[int] | Sequence[float] | np.ndarray[Any, Any],
    kind: Kind,
) -> pd.DataFrame:
    """Build a normalized frame from N texts (and N second texts) and N labels."""
    columns: dict[str, Any] = {"text_a": pd.Series(list(text_a), dtype="str")}
    if text_b is not None:
        columns["text_b"] = pd.Series(list(text_b), dtype="str")
    columns["label"] = pd.Series(
        np.asarray(label, dtype=np.float64 if kind == "regression" else np.int64)
    )
    return pd.DataFrame(columns)


def text_columns(frame: pd.DataFrame) -> list[str]:
    """The text columns that `frame` has, in order."""
    return [name for name in ("text_a", "text_b") if name in frame.columns]


def text_keys(frame: pd.DataFrame) -> list[str]:
    """One key per row; rows with equal keys are duplicates of each other.

    Case, the amount of whitespace and how Unicode composes a letter do not count; the boundary
    between the two texts of a pair does.
    """
    parts = [
        [" ".join(plain(text).casefold().split()) for text in frame[name]]
        for name in text_columns(frame)
    ]
    # \x1f is whitespace for str.split, so no normalized text contains it.
    return ["\x1f".join(texts) for texts in zip(*parts, strict=True)]


def spread(frame: pd.DataFrame, rows: int, letters: int) -> pd.DataFrame:
    """Rows from everywhere in a frame, in its order: at most `rows`, of about `letters` in all.

    One at least, unless the frame is empty.
    """
    there = sum(int(frame[name].str.len().sum()) for name in text_columns(frame))
    most = max(1, min(rows, len(frame) * letters // max(there, 1)))
    step = max(1, -(-len(frame) // most))
    return frame.iloc[::step].copy()


def read_utf8(path: Path) -> str:
    """The text of a file, which may be gzipped, without a byte-order mark.

    Raises ValueError if the file is missing, empty, damaged, or not UTF-8 (naming line and byte).
    """
    if not path.is_file():
        raise ValueError(f"path must be an existing file, got {path}")
    raw = path.read_bytes()
    if raw.startswith(GZIP):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} must be a whole gzip file, got: {error}") from None
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise not_utf8(path, raw[error.start], line, error.start) from None
    if not text.strip():
        raise ValueError(f"{path} must have at least 1 row, got an empty file")
    return text


def not_utf8(path: Path, byte: int, line: int, place: int) -> ValueError:
    """What is said of a file with a byte that is not UTF-8, counted from 0."""
    return ValueError(
        f"{path} must be UTF-8, got byte 0x{byte:02x} in line {line} (byte {place} of the file)"
    )


def split_lines(text: str) -> list[str]:
    """The lines of a file with either line ending, without a last empty one.

    Unlike `str.splitlines` it leaves the other line separators of Unicode alone: they occur
    inside sentences.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines
