"""Variants of sentences by word replacement, streamed to Parquet.

Source: TinyBERT, algorithm 1, with ROSITA's numbers of copies. Three differences from the authors'
code: both sentences of a pair vary independently in the same copy; everything is seeded by row;
and a word is not a candidate for itself, so that `replace_probability` is the rate of words that
really change (there it is 14/15 of it or less, a word being its own nearest neighbour).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rosita_core.augmentation.masked_lm import MaskedLMProposer
from rosita_core.augmentation.vectors import WordVectors
from rosita_core.augmentation.words import Sentence, cut, is_eligible

# Input rows that are worked on together. Blocks start at multiples of it whatever the row the
# augmentation starts at, so that a resumed one forms the same batches and gets the same bits.
_BLOCK_ROWS = 512
_ROW_GROUP = 2**16

# Where a row can change: token position -> what may stand there instead.
_Options = dict[int, list[str]]


@dataclass(frozen=True)
class AugmentSettings:
    copies: int
    """Variants tried per row, 0 or more; duplicates are dropped, so there may be fewer."""
    replace_probability: float
    """Probability, in [0, 1], that an eligible word is replaced in a variant."""
    candidates: int
    """Candidates per word, 1 or more."""
    seed: int
    """0 or more. With the row's index it decides the row's variants."""

    def __post_init__(self) -> None:
        if self.copies < 0:
            raise ValueError(f"copies must be at least 0, got {self.copies}")
        if not 0 <= self.replace_probability <= 1:
            raise ValueError(
                f"replace_probability must be in [0, 1], got {self.replace_probability}"
            )
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")


def augment(
    frame: pd.DataFrame,
    settings: AugmentSettings,
    mlm: MaskedLMProposer | None,
    vectors: WordVectors | None,
    report: Callable[[int, int], None],
    start_row: int = 0,
    as_written: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Each row of `frame` followed by its variants, as a stream of record batches.

    frame: columns text_a, optionally text_b, and label (integer or floating).
    mlm, vectors: a word of one word piece gets its candidates from the masked language model, once
        per occurrence; any other, or one for which that model has none, its nearest word vectors,
        once per word. With one of the two missing, the other does what it can. A word without
        candidates stays.
    report: called with (rows done, rows in all) after each batch.
    start_row: the row to start at. The stream from there is what an uninterrupted one would have
        brought from there on.
    as_written: whether variants keep case and spaces of the original, for tokenizers that see them
        (`reads_as_written`).

    Columns of the result: text_a, (text_b,) label, origin (int64, position of the row in `frame`),
    copy (int64, 0 for the original, then 1..copies with gaps where duplicates were dropped).
    The original keeps its text as it is; a variant is basic tokens joined by spaces, or where
    `as_written` says so the text with other words in the same case. A variant that
    differs from the original in nothing but case and spacing counts as a duplicate of it.

    A row's variants depend on its content, its position and the settings only, not on other rows
    (with a masked language model: as far as its floating-point results do not depend on them).

    Raises ValueError, before anything is computed, for a frame without these columns, without rows
    or with null values, a start_row beyond the frame, no proposer though copies is above 0, or a
    masked language model whose `top` is not `settings.candidates`.
    """
    columns = _text_columns(frame)
    if not 0 <= start_row <= len(frame):
        raise ValueError(f"start_row must be in [0, {len(frame)}], got {start_row}")
    if settings.copies and mlm is None and vectors is None:
        raise ValueError(
            "proposers must name a masked language model or word vectors when copies is above 0, "
            f"got neither for copies = {settings.copies}"
        )
    if mlm is not None and mlm.top != settings.candidates:
        raise ValueError(
            f"top of the masked language model must equal candidates = {settings.candidates}, "
            f"got {mlm.top}"
        )
    return _stream(frame, columns, settings, mlm, vectors, report, start_row, as_written)


def write_augmented(batches: Iterable[pa.RecordBatch], path: Path) -> int:
    """Write a stream of record batches to a Parquet file; returns the number of rows.

    The bytes depend on the rows alone, not on how the stream is cut into batches. At most one row
    group (65,536 rows) and one batch are in memory. The file appears under its name when it is
    complete. Raises ValueError if there is no batch.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as sink:
            rows = _write(batches, sink)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return rows


def _write(batches: Iterable[pa.RecordBatch], sink: object) -> int:
    writer: pq.ParquetWriter | None = None
    waiting: pa.Table | None = None
    rows = 0
    try:
        for batch in batches:
            if writer is None:
                names = [name for name in batch.schema.names if not name.startswith("text_")]
                # Texts hardly repeat: a dictionary of them would only be built and given up.
                writer = pq.ParquetWriter(
                    sink, batch.schema, compression="zstd", use_dictionary=names, version="2.6"
                )
            rows += batch.num_rows
            table = pa.Table.from_batches([batch])
            waiting = table if waiting is None else pa.concat_tables([waiting, table])
            while waiting.num_rows >= _ROW_GROUP:
                writer.write_table(waiting.slice(0, _ROW_GROUP).combine_chunks(), _ROW_GROUP)
                waiting = waiting.slice(_ROW_GROUP)
        if writer is None or waiting is None:
            raise ValueError("batches must hold at least one record batch, got none")
        if waiting.num_rows:
            writer.write_table(waiting.combine_chunks(), _ROW_GROUP)
    finally:
        if writer is not None:
            writer.close()
    return rows


def _text_columns(frame: pd.DataFrame) -> list[str]:
    """The text columns there are, after checking the frame."""
    for name in ("text_a", "label"):
        if name not in frame.columns:
            raise ValueError(f"frame must have a column {name}, got {list(frame.columns)}")
    if frame.empty:
        raise ValueError("frame must have at least 1 row, got 0")
    columns = [name for name in ("text_a", "text_b") if name in frame.columns]
    for name in columns:
        wrong = ((row, text) for row, text in enumerate(frame[name]) if not isinstance(text, str))
        for row, text in wrong:
            raise ValueError(f"{name} must be text in every row, got {text!r} in row {row}")
    label = frame["label"]
    if not pd.api.types.is_numeric_dtype(label) or pd.api.types.is_bool_dtype(label):
        raise ValueError(f"label must be integer or floating, got values of type {label.dtype}")
    missing = label.isna().to_numpy()
    if missing.any():
        raise ValueError(f"label must not be null, got null in row {int(missing.argmax())}")
    return columns


def _stream(
    frame: pd.DataFrame,
    columns: list[str],
    settings: AugmentSettings,
    mlm: MaskedLMProposer | None,
    vectors: WordVectors | None,
    report: Callable[[int, int], None],
    start_row: int,
    as_written: bool,
) -> Iterator[pa.RecordBatch]:
    total = len(frame)
    if start_row == total:
        return
    labels = pa.array(frame["label"].to_numpy())
    near: dict[str, list[str]] = {}
    for start in range(start_row - start_row % _BLOCK_ROWS, total, _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, total)
        texts = {name: frame[name].iloc[start:stop].tolist() for name in columns}
        out: dict[str, list[str]] = {name: [] for name in columns}
        origin: list[int] = []
        copy: list[int] = []
        sentences: dict[str, list[Sentence]] = {}
        options: dict[str, list[_Options]] = {}
        if settings.copies:
            for name in columns:
                sentences[name] = [cut(text, as_written) for text in texts[name]]
                tokens = [sentence.tokens for sentence in sentences[name]]
                options[name] = _options(tokens, settings.candidates, mlm, vectors, near)
        for row in range(max(start, start_row), stop):
            at = row - start
            variants = [(0, [texts[name][at] for name in columns])]
            if settings.copies:
                sides = [(sentences[name][at], options[name][at]) for name in columns]
                variants += _variants(sides, settings, row)
            for number, varied in variants:
                origin.append(row)
                copy.append(number)
                for name, text in zip(columns, varied, strict=True):
                    out[name].append(text)
        origins = pa.array(origin, pa.int64())
        arrays = {name: pa.array(out[name], pa.string()) for name in columns}
        arrays["label"] = labels.take(origins)
        arrays |= {"origin": origins, "copy": pa.array(copy, pa.int64())}
        yield pa.RecordBatch.from_pydict(arrays)
        report(stop, total)


def _options(
    sentences: list[list[str]],
    count: int,
    mlm: MaskedLMProposer | None,
    vectors: WordVectors | None,
    near: dict[str, list[str]],
) -> list[_Options]:
    """The candidates of every word that may change, per sentence. `near` remembers the neighbours
    of words met before, and is added to."""
    eligible = [[i for i, token in enumerate(s) if is_eligible(token)] for s in sentences]
    by_model: dict[tuple[int, int], list[str]] = {}
    if mlm is not None:
        places = [
            (s, i) for s, found in enumerate(eligible) for i in found if mlm.knows(sentences[s][i])
        ]
        by_model = dict(zip(places, mlm.propose(sentences, places), strict=True))
    if vectors is not None:
        new = {
            sentences[s][i]
            for s, found in enumerate(eligible)
            for i in found
            if not by_model.get((s, i)) and sentences[s][i] not in near
        }
        words = sorted(new)
        near |= zip(words, vectors.nearest(words, count), strict=True)
    options: list[_Options] = []
    for s, found in enumerate(eligible):
        either = {i: by_model.get((s, i)) or near.get(sentences[s][i], []) for i in found}
        options.append({i: choice for i, choice in either.items() if choice})
    return options


def _variants(
    sides: list[tuple[Sentence, _Options]], settings: AugmentSettings, row: int
) -> list[tuple[int, list[str]]]:
    """The distinct variants of one row, each with its number (from 1): its one or two texts."""
    counts = [len(choice) for _, options in sides for choice in options.values()]
    if not counts:
        return []
    rng = np.random.default_rng([settings.seed, row])
    size = (settings.copies, len(counts))
    replace = rng.random(size) < settings.replace_probability
    # 0 leaves a word as it is; the candidates of a word differ, so equal codes are equal texts.
    codes = np.where(replace, rng.integers(1, np.array(counts) + 1, size=size), 0).tolist()
    seen = {(0,) * len(counts)}
    variants: list[tuple[int, list[str]]] = []
    for number, code in enumerate(codes, start=1):
        key = tuple(code)
        if key in seen:
            continue
        seen.add(key)
        chosen = iter(code)
        texts: list[str] = []
        for sentence, options in sides:
            # A pick for every word, 0 for none.
            picks = {position: next(chosen) for position in options}
            words = {i: options[i][picked - 1] for i, picked in picks.items() if picked}
            texts.append(sentence.with_words(words))
        variants.append((number, texts))
    return variants
