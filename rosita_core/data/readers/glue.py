"""The nine GLUE tasks, from a directory in the layout of the GLUE distribution or from the hub.

The files are tab-separated without quoting; some start with a byte-order mark, and CoLA's have
no header.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd

from rosita_core.class_names import is_blank, label_name
from rosita_core.data.table import (
    Table,
    normalized_frame,
    read_utf8,
    split_lines,
    text_columns,
)
from rosita_core.data.task_spec import GLUE, HUB_REPOSITORY, HUB_REVISION, TaskSpec
from rosita_core.messages import brief, some

__all__ = ["GLUE", "TaskSpec", "from_hub_dataset", "read_glue_dir", "read_hub"]


BROKEN = "wrong number of fields"
EMPTY = "empty text"

_COLA_HEADER = ["source", "label", "star", "sentence"]

# task: text_a, text_b, label
_FILE_COLUMNS: dict[str, tuple[str, str | None, str]] = {
    "cola": ("sentence", None, "label"),
    "sst2": ("sentence", None, "label"),
    "mrpc": ("#1 String", "#2 String", "Quality"),
    "stsb": ("sentence1", "sentence2", "score"),
    "qqp": ("question1", "question2", "is_duplicate"),
    "mnli": ("sentence1", "sentence2", "gold_label"),
    "qnli": ("question", "sentence", "label"),
    "rte": ("sentence1", "sentence2", "label"),
    "wnli": ("sentence1", "sentence2", "label"),
}

_HUB_TEXTS: dict[str, tuple[str, str | None]] = {
    "cola": ("sentence", None),
    "sst2": ("sentence", None),
    "mrpc": ("sentence1", "sentence2"),
    "stsb": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "rte": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"),
}

# These files spell their classes out; in the others the class index stands.
_NAMED_LABELS = frozenset({"mnli", "qnli", "rte"})


def read_glue_dir(path: Path, task: TaskSpec, split: str) -> Table:
    """Read one labelled split of a GLUE task from the task's own directory.

    path: the directory that holds train.tsv and dev.tsv (MNLI: dev_matched.tsv and
    dev_mismatched.tsv).
    split: "train" or one of `task.dev_splits`.

    Rows with a wrong number of fields (QQP has some) are left out and counted; so are training
    rows with an empty text (QQP has two). The dev splits keep theirs, which `../checks.py` refuses:
    without them a score would be one on other rows.
    Raises ValueError for a missing or empty file, a missing column, text that is not UTF-8, and
    a label that the task does not have (naming file and line).
    """
    _check_split(task, split)
    file = Path(path) / f"{split}.tsv"
    lines = split_lines(read_utf8(file))
    header = _COLA_HEADER if task.name == "cola" else lines[0].split("\t")
    first = 0 if task.name == "cola" else 1
    name_a, name_b, name_label = _FILE_COLUMNS[task.name]
    wanted = [name for name in (name_a, name_b, name_label) if name is not None]
    if not set(wanted) <= set(header):
        raise ValueError(f"{file} must have the columns {', '.join(wanted)}, got {some(header)}")
    at_a, at_label = header.index(name_a), header.index(name_label)
    at_b = header.index(name_b) if name_b is not None else None
    parse = _label_parser(task)
    texts_a: list[str] = []
    texts_b: list[str] = []
    labels: list[float] = []
    broken = 0
    for number, line in enumerate(lines[first:], start=first + 1):
        fields = line.split("\t")
        if len(fields) != len(header):
            if split != "train":
                raise ValueError(
                    f"{file} must have {len(header)} fields in each row, "
                    f"got {len(fields)} in line {number}"
                )
            broken += 1
            continue
        texts_a.append(fields[at_a])
        if at_b is not None:
            texts_b.append(fields[at_b])
        try:
            labels.append(parse(fields[at_label]))
        except ValueError as error:
            raise ValueError(f"{file} line {number}: {error}") from None
    if not labels:
        raise ValueError(
            f"{file} must have at least 1 row of {len(header)} fields, got 0 ({broken} broken)"
        )
    frame = normalized_frame(texts_a, texts_b if at_b is not None else None, labels, task.kind)
    return _without_empty(frame, split, {BROKEN: broken} if broken else {})


def read_hub(task: TaskSpec, split: str) -> Table:
    """Read one labelled split of a GLUE task from the hub (or from its local cache).

    split: "train" or one of `task.dev_splits`.
    Raises ConnectionError if the hub cannot be reached, ValueError as `from_hub_dataset`.
    """
    _check_split(task, split)
    if task.hub_name is None:
        raise ValueError(f"task must be one of {', '.join(GLUE)} for source hub, got {task.name}")
    try:
        dataset = datasets.load_dataset(
            HUB_REPOSITORY,
            task.hub_name,
            split=split.replace("dev", "validation"),
            revision=HUB_REVISION,
        )
    except OSError as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConnectionError(
            f"source hub: {HUB_REPOSITORY} ({task.hub_name}, {split}) cannot be read: {cause}"
        ) from error
    return from_hub_dataset(dataset, task, split)


def from_hub_dataset(dataset: datasets.Dataset, task: TaskSpec, split: str) -> Table:
    """Turn a split as the hub serves it into a normalized table.

    Raises ValueError if its classes are not those of `task` in the same order, or a row has no
    label.
    """
    feature = dataset.features["label"]
    served = tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else ()
    if served != task.labels:
        raise ValueError(f"labels of {task.name} must be {task.labels}, got {served} from the hub")
    name_a, name_b = _HUB_TEXTS[task.name]
    labels = dataset["label"][:]
    if task.kind == "classification" and min(labels, default=0) < 0:
        raise ValueError(f"split must be labelled, got {split} of {task.name} without labels")
    frame = normalized_frame(
        dataset[name_a][:], dataset[name_b][:] if name_b is not None else None, labels, task.kind
    )
    return _without_empty(frame, split, {})


def _check_split(task: TaskSpec, split: str) -> None:
    known = ("train", *task.dev_splits)
    if task.name not in GLUE or split not in known:
        raise ValueError(f"split must be one of {', '.join(known)} for {task.name}, got {split}")


def _label_parser(task: TaskSpec) -> Callable[[str], float]:
    if task.kind == "regression":
        return _parse_number
    names: Iterable[str] = (
        task.labels if task.name in _NAMED_LABELS else map(str, range(len(task.labels)))
    )
    index = {name: position for position, name in enumerate(names)}

    def parse(value: str) -> float:
        name = label_name(value)
        if name not in index:
            raise ValueError(f"label must be one of {', '.join(index)}, got {brief(repr(value))}")
        return index[name]

    return parse


def _parse_number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"label must be a number, got {brief(repr(value))}") from None


def _without_empty(frame: pd.DataFrame, split: str, dropped: dict[str, int]) -> Table:
    # A dev row cannot be left out without changing what the score is measured on.
    if split != "train":
        return Table(frame, dropped)
    full: Any = True
    for name in text_columns(frame):
        full = full & ~frame[name].map(is_blank)
    kept = frame[full].reset_index(drop=True)
    empty = len(frame) - len(kept)
    return Table(kept, {**dropped, EMPTY: empty} if empty else dropped)
