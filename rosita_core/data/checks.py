"""What is wrong with prepared data, said before anything is computed on it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rosita_core.class_names import is_blank
from rosita_core.data.preparation import Splits
from rosita_core.data.table import text_columns
from rosita_core.messages import brief, some

LARGEST = 1e18
"""The square of a label is a number of float32."""
LEAST_SPREAD = 1e-5
"""Deviation of labels, a share of the largest, which float32 divides into 80 steps or more."""
SMALLEST = 1e-18
"""The square of a deviation is a number of float32, too."""


def check_splits(splits: Splits, needed_rows: Mapping[str, int]) -> None:
    """Check that the splits can be trained and measured on.

    needed_rows: least number of rows by split name (`Splits.frames`); 1 for splits not named
    there. 0 lets a split be empty.

    Raises ValueError, on one line, for: fewer rows than needed, wrong columns, a text that is null
    or empty, a regression label that is not finite or too large, training labels that hardly vary,
    a class index without a name, training data of one class, a class in another split that train
    lacks. Rows are counted from 1.
    """
    frames = splits.frames()
    unknown = sorted(set(needed_rows) - set(frames))
    if unknown:
        raise ValueError(
            f"needed_rows must name splits of {', '.join(frames)}, got {', '.join(unknown)}"
        )
    for name, frame in frames.items():
        needed = needed_rows.get(name, 1)
        if len(frame) < needed:
            raise ValueError(f"{name} must have at least {needed} rows, got {len(frame)}")
        _check_texts(name, frame, splits.pair)
    if splits.kind == "regression":
        for name, frame in frames.items():
            _check_numbers(name, frame)
    else:
        _check_classes(splits)


def _check_texts(split: str, frame: pd.DataFrame, pair: bool) -> None:
    wanted = ["text_a", "text_b", "label"] if pair else ["text_a", "label"]
    if list(frame.columns) != wanted:
        raise ValueError(
            f"columns of {split} must be {', '.join(wanted)}, got {', '.join(frame.columns)}"
        )
    for name in text_columns(frame):
        null = np.flatnonzero(frame[name].isna())
        if len(null):
            raise ValueError(f"{name} of {split} must not be null, got null in row {null[0] + 1}")
        for row, text in enumerate(frame[name], start=1):
            if is_blank(text):
                raise ValueError(
                    f"{name} of {split} must not be empty, got {brief(repr(text))} in row {row}"
                )


def _check_numbers(split: str, frame: pd.DataFrame) -> None:
    labels = frame["label"].to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(labels))
    if len(bad):
        raise ValueError(
            f"label of {split} must be finite, got {labels[bad[0]]} in row {bad[0] + 1}"
        )
    large = np.flatnonzero(np.abs(labels) > LARGEST)
    if len(large):
        row = large[0]
        raise ValueError(
            f"label of {split} must be in [-{LARGEST:g}, {LARGEST:g}], got {labels[row]:g} in row "
            f"{row + 1}"
        )
    # A correlation with what does not vary is none.
    if split in ("train", "select", "dev") and len(labels) > 1 and len(set(labels.tolist())) < 2:
        raise ValueError(f"label of {split} must have at least 2 values, got 1 ({labels[0]:g})")
    if split != "train" or len(labels) < 2:
        return
    spread, largest = labels.std(), np.abs(labels).max()
    if spread < (least := max(LEAST_SPREAD * largest, SMALLEST)):
        raise ValueError(
            f"label of {split} must have a deviation of at least {least:g} where the largest is "
            f"{largest:g} (take a constant from the labels, or use a smaller unit), got {spread:g}"
        )


def _check_classes(splits: Splits) -> None:
    count = len(splits.labels)
    learned = sorted(set(splits.train["label"].tolist()))
    for name, frame in splits.frames().items():
        for row, label in enumerate(frame["label"].tolist(), start=1):
            if label not in range(count):
                raise ValueError(
                    f"label of {name} must be in [0, {count - 1}], got {label} in row {row}"
                )
    if len(splits.train) and len(learned) < 2:
        only = brief(splits.labels[learned[0]])
        raise ValueError(f"label of train must have at least 2 classes, got 1 ({only})")
    names = some([splits.labels[label] for label in learned])
    for name, frame in splits.frames().items():
        for row, label in enumerate(frame["label"].tolist(), start=1):
            if label not in learned:
                raise ValueError(
                    f"label of {name} must be one that train has ({names}), "
                    f"got {brief(splits.labels[label])} in row {row}"
                )
