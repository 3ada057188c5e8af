"""From source tables to the splits that stages read: cut, fingerprint, keep.

The cut depends on the texts and the seed alone, not on the order of rows or on a library's random
generator, so a split stays the same across versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from rosita_core.data.table import Table, text_columns, text_keys
from rosita_core.data.task_spec import Kind, TaskSpec

Counts = Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Splits:
    """The prepared data of a task. Frames are normalized tables (`rosita_core.data.table`)."""

    train: pd.DataFrame
    """What models learn from."""
    select: pd.DataFrame
    """What checkpoints are chosen on; cut from the training data. Empty if none was asked for."""
    dev: pd.DataFrame
    """What scores are reported on."""
    dev_extra: Mapping[str, pd.DataFrame]
    """Further reported splits by short name (MNLI: mismatched)."""
    labels: tuple[str, ...]
    """Class names in index order; empty for regression."""
    kind: Kind
    pair: bool
    dropped: Mapping[str, Counts]
    """For each source split, how many of its rows were left out, by reason."""

    def frames(self) -> dict[str, pd.DataFrame]:
        """Every split by name, those of `dev_extra` as dev_<name>."""
        extra = {f"dev_{name}": frame for name, frame in self.dev_extra.items()}
        return {"train": self.train, "select": self.select, "dev": self.dev, **extra}

    def with_frames(self, frames: Mapping[str, pd.DataFrame]) -> Splits:
        """The same with other rows, by the names of `frames`."""
        extra = {name: frames[f"dev_{name}"] for name in self.dev_extra}
        train, select, dev = (frames[name] for name in ("train", "select", "dev"))
        return replace(self, train=train, select=select, dev=dev, dev_extra=extra)


def prepare(
    task: TaskSpec,
    train: Table,
    dev: Table | None,
    dev_extra: Mapping[str, Table],
    select_fraction: float,
    dev_rows: int | None,
    seed: int,
) -> Splits:
    """Cut the sources of a task into train, select and dev.

    dev: the official dev split, taken as it is; None for sources without one, which then give up
    `dev_rows` rows of train to it. dev_rows must be None where `dev` is given.
    select_fraction: part of the training data, in [0, 1), that is held back to choose checkpoints;
    0 holds nothing back.

    Rows keep the order of their source. No text stands in two of the splits that were cut here,
    whatever its case and spacing. An official dev split may share texts with train; those are not
    taken for select, unless train has no others.
    Raises ValueError for values out of bounds.
    """
    if not 0 <= select_fraction < 1:
        raise ValueError(f"select_fraction must be in [0, 1), got {select_fraction}")
    if (dev is None) == (dev_rows is None):
        want = "a number of rows, as the source has no dev split"
        if dev is not None:
            want = "null, as the source has a dev split"
        raise ValueError(f"dev_rows must be {want}, got {dev_rows}")
    stratified = task.kind == "classification"
    rest = train.frame
    if dev is not None:
        dev_frame = dev.frame
    else:
        assert dev_rows is not None
        rest, dev_frame = split_off(rest, dev_rows, seed, stratified, frozenset(), "dev_rows")
    select = rest.iloc[:0]
    if select_fraction > 0:
        most = _most_to_take(rest, stratified)
        if most < 1 and dev_rows is not None:
            raise ValueError(
                f"dev_rows must leave {_least(stratified)}, so that some choose checkpoints, "
                f"got {dev_rows} of {_described(train.frame, stratified)}"
            )
        count = round(select_fraction * len(rest))
        if most >= 1 and not 1 <= count <= most:
            raise ValueError(
                f"select_fraction must hold back 1 to {most} of {_described(rest, stratified)}, "
                f"got {select_fraction}"
            )
        reported = (dev_frame, *(table.frame for table in dev_extra.values()))
        others = frozenset(key for frame in reported for key in text_keys(frame))
        rest, select = split_off(rest, count, seed, stratified, others, "select_fraction")
    dropped = {"train": train.dropped}
    if dev is not None:
        dropped["dev"] = dev.dropped
    dropped |= {f"dev_{name}": table.dropped for name, table in dev_extra.items()}
    return Splits(
        train=rest.reset_index(drop=True),
        select=select.reset_index(drop=True),
        dev=dev_frame.reset_index(drop=True),
        dev_extra={name: table.frame.reset_index(drop=True) for name, table in dev_extra.items()},
        labels=task.labels,
        kind=task.kind,
        pair=task.pair,
        dropped=dropped,
    )


def split_off(
    frame: pd.DataFrame, count: int, seed: int, stratified: bool, avoid: Set[str], name: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut rows off a normalized frame: (rest, taken), both in the order of `frame`.

    count: rows to take.
    stratified: keep the shares of the classes (largest remainder); each class leaves at least one
    row in the rest.
    avoid: `text_keys` that are taken only if nothing else can be.
    name: what the count is called in errors.

    Rows with equal `text_keys` stay together. At most `count` rows are taken; fewer only if the
    duplicates do not fit in what is left to take, or the rest is to be avoided.
    Raises ValueError if the count is out of bounds or nothing fits.
    """
    most = _most_to_take(frame, stratified)
    if most < 1:
        raise ValueError(
            f"train must have {_least(stratified)}, so that some can be held out, "
            f"got {_described(frame, stratified)}"
        )
    if not 1 <= count <= most:
        raise ValueError(
            f"{name} must be in [1, {most}] for {_described(frame, stratified)}, got {count}"
        )
    classes = _class_codes(frame, stratified)
    room = _quotas(np.bincount(classes), count)
    keys = text_keys(frame)
    groups: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    salt = str(seed).encode()
    drawn = sorted(groups, key=lambda key: _draw(key, salt))
    free = [groups[key] for key in drawn if key not in avoid]
    taken = _fitting(free, classes, room) or _fitting([groups[k] for k in drawn], classes, room)
    if not taken:
        least = min(len(rows) for rows in groups.values())
        raise ValueError(
            f"{name} must leave room for all rows of some text in the shares of their classes, "
            f"got {count} of {len(frame)} rows, and {least} or more of each text"
        )
    inside = np.zeros(len(frame), dtype=bool)
    inside[taken] = True
    return frame[~inside].reset_index(drop=True), frame[inside].reset_index(drop=True)


def _fitting(groups: Iterable[list[int]], classes: np.ndarray, room: np.ndarray) -> list[int]:
    """The rows of those groups, in their order, that fit whole in what is left of the room."""
    taken: list[int] = []
    for rows in groups:
        need = np.bincount(classes[rows], minlength=len(room))
        if (need <= room).all():
            room = room - need
            taken += rows
            if not room.any():
                break
    return taken


def fingerprint(frame: pd.DataFrame) -> str:
    """SHA-256 (hex) of the content of a normalized frame: columns, their order, and all values.

    Computed from the values themselves, so that it does not change with a version of pandas or
    Parquet. Raises ValueError for a missing text.
    """
    digest = hashlib.sha256(f"{len(frame)} rows".encode())
    for name in frame.columns:
        if name in text_columns(frame):
            if frame[name].isna().any():
                raise ValueError(f"{name} must not be null, got null")
            texts = [text.encode() for text in frame[name]]
            digest.update(f"|{name}:text|".encode())
            # Lengths first, so that moving a boundary between texts changes the digest.
            digest.update(np.array([len(text) for text in texts], dtype="<i8").tobytes())
            digest.update(b"".join(texts))
        else:
            code = "<f8" if frame[name].dtype.kind == "f" else "<i8"
            digest.update(f"|{name}:{code}|".encode())
            digest.update(frame[name].to_numpy().astype(code).tobytes())
    return digest.hexdigest()


def _most_to_take(frame: pd.DataFrame, stratified: bool) -> int:
    """How many rows can be cut off so that one of each class is left."""
    return len(frame) - (frame["label"].nunique() if stratified else 1)


def _least(stratified: bool) -> str:
    return "more rows than classes" if stratified else "at least 2 rows"


def _described(frame: pd.DataFrame, stratified: bool) -> str:
    classes = f" of {frame['label'].nunique()} classes" if stratified else ""
    return f"{len(frame)} rows{classes}"


def _class_codes(frame: pd.DataFrame, stratified: bool) -> np.ndarray:
    if not stratified:
        return np.zeros(len(frame), dtype=np.int64)
    return np.unique(frame["label"].to_numpy(), return_inverse=True)[1]


def _quotas(counts: np.ndarray, size: int) -> np.ndarray:
    """How many rows to take of each class: proportional, sum `size`, one row of each class left."""
    exact = size * counts / counts.sum()
    quotas = np.minimum(np.floor(exact).astype(np.int64), counts - 1)
    while quotas.sum() < size:
        short = np.where(quotas < counts - 1, exact - quotas, -np.inf)
        quotas[np.argmax(short)] += 1
    return quotas


def _draw(key: str, salt: bytes) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16, key=salt).digest()
