"""Stage `augment`: variants of the training rows by word replacement, as text and word pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from rosita_core.augmentation.augment import AugmentSettings, augment, write_augmented
from rosita_core.augmentation.masked_lm import MaskedLMProposer
from rosita_core.augmentation.shards import Shards
from rosita_core.augmentation.vectors import WordVectors, load_glove_text, load_packaged
from rosita_core.augmentation.words import reads_as_written
from rosita_core.data.encoding import encode
from rosita_core.data.sources import NOT_IN_KEY
from rosita_core.model.unchanged import check_proposer_unchanged, check_vectors_unchanged
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.progress import Progress, Report


@dataclass(frozen=True)
class AugmentStageSettings:
    """What proposes replacements, and how many variants are made.

    Attributes:
        variants: copies, probability, candidates and seed.
        vocabulary: how many of the most frequent words have vectors.
        mlm_digest, vectors_digest: contents of the proposers; None where there is none.
        mlm_batch_size: masked positions at a time.
        mlm, vectors: where the proposers are.
    """

    variants: AugmentSettings
    vocabulary: int
    mlm_digest: str | None
    vectors_digest: str | None
    mlm_batch_size: int = field(metadata=NOT_IN_KEY)
    mlm: str | None = field(metadata=NOT_IN_KEY)
    vectors: str | None = field(metadata=NOT_IN_KEY)


def load_vectors(path: Path, vocabulary: int) -> WordVectors:
    """Packaged vectors (a directory) or a GloVe text file."""
    return (load_packaged if path.is_dir() else load_glove_text)(path, vocabulary)


def augment_data(
    train: pd.DataFrame,
    settings: AugmentStageSettings,
    mlm: MaskedLMProposer | None,
    vectors: WordVectors | None,
    tokenizer: Any,
    folder: Path,
    report: Report,
    checkpoints: Checkpoints,
) -> dict[str, float | str]:
    """Write `augmented.parquet` and `encoded/train.arrow` into `folder`; returns row counts.

    A checkpoint holds the rows made so far; the word pieces are cut again from the start.

    Raises:
        ValueError: where a proposer has changed since its digest was taken.
    """

    def tell(done: int, total: int) -> None:
        report(Progress(done, total, {}, None, None))

    _check_unchanged(settings)
    as_written = reads_as_written(tokenizer)
    path = folder / "augmented.parquet"
    with TemporaryDirectory(dir=folder) as scratch:
        shards = Shards(checkpoints, len(train), Path(scratch))
        if shards.done:
            report(Progress(shards.done, len(train), {}, None, f"goes on from row {shards.done:,}"))
        new = augment(train, settings.variants, mlm, vectors, tell, shards.done, as_written)
        rows = write_augmented(chain(shards.read(), shards.kept(new)), path)
        # Again, since vectors are mapped into memory and read as they are needed.
        _check_unchanged(settings)
        (folder / "encoded").mkdir()
        report(Progress(len(train), len(train), {}, None, f"{rows:,} rows from {len(train):,}"))
        encode(shards.watched(_stream(path)), tokenizer, folder / "encoded" / "train.arrow")
    return {"rows_train": float(rows), "rows_original": float(len(train))}


def _check_unchanged(settings: AugmentStageSettings) -> None:
    if settings.mlm is not None and settings.mlm_digest is not None:
        check_proposer_unchanged(Path(settings.mlm), settings.mlm_digest)
    if settings.vectors is not None and settings.vectors_digest is not None:
        check_vectors_unchanged(Path(settings.vectors), settings.vectors_digest)


def _stream(path: Path) -> Iterator[pd.DataFrame]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            yield batch.to_pandas()
