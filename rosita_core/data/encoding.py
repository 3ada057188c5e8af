"""Token ids in an Arrow file that is memory-mapped, so that a data set need not fit in memory.

A row holds the word pieces of one or two sentences without special tokens; batches add them (see
`framing.py`) and truncate, so that one file serves every maximum length.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

ROWS_PER_BATCH = 8192
IDS = pa.list_(pa.int32())


def encode(frames: Iterable[pd.DataFrame], tokenizer: Any, path: Path) -> int:
    """Tokenize tables (text_a, optional text_b, label) into an Arrow file; returns its rows.

    Args:
        frames: tables of the same columns, streamed one at a time.
        tokenizer: a fast Hugging Face tokenizer.
        path: the file to write.
    """
    rows = 0
    writer: pa.RecordBatchFileWriter | None = None
    with pa.OSFile(str(path), "wb") as sink:
        for frame in frames:
            for start in range(0, len(frame), ROWS_PER_BATCH):
                batch = _encode_batch(frame.iloc[start : start + ROWS_PER_BATCH], tokenizer)
                if writer is None:
                    writer = pa.ipc.new_file(sink, batch.schema)
                writer.write_batch(batch)
                rows += batch.num_rows
        if writer is None:
            raise ValueError("rows must be at least 1 to encode, got 0")
        writer.close()
    return rows


def _encode_batch(frame: pd.DataFrame, tokenizer: Any) -> pa.RecordBatch:
    arrays = {}
    for column in ("text_a", "text_b"):
        if column in frame:
            texts = frame[column].tolist()
            ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
            arrays[column[-1]] = pa.array(ids, type=IDS)
    labels = frame["label"].to_numpy()
    kind = pa.float64() if labels.dtype.kind == "f" else pa.int64()
    arrays["label"] = pa.array(labels, type=kind)
    return pa.RecordBatch.from_pydict(arrays)


class Encoded:
    """Rows of an Arrow file written by `encode`, read through a memory map.

    Attributes:
        labels: (N,) int64 class indices or float64 values.
        lengths: (N,) word pieces of both sentences, without special tokens.
        pair: whether rows have two sentences.
    """

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        self.pair = "b" in table.column_names
        self._a = _Ragged(table.column("a"))
        self._b = _Ragged(table.column("b")) if self.pair else None
        self.labels: np.ndarray = table.column("label").to_numpy()
        self.lengths: np.ndarray = self._a.lengths + (self._b.lengths if self._b else 0)

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, row: int) -> np.ndarray:
        """Word pieces of the first sentence of `row`."""
        return self._a[row]

    def second(self, row: int) -> np.ndarray | None:
        """Word pieces of the second sentence of `row`, None where there is none."""
        return None if self._b is None else self._b[row]


class _Ragged:
    """A chunked list column as views into its memory map."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._chunks = [(c.offsets.to_numpy(), c.values.to_numpy()) for c in column.chunks]
        self._starts = np.cumsum([0] + [len(c) for c in column.chunks])
        sizes = [np.diff(offsets) for offsets, _ in self._chunks]
        self.lengths = np.concatenate(sizes) if sizes else np.zeros(0, np.int32)

    def __getitem__(self, row: int) -> np.ndarray:
        chunk = int(np.searchsorted(self._starts, row, side="right")) - 1
        offsets, values = self._chunks[chunk]
        inside = row - self._starts[chunk]
        return values[offsets[inside] : offsets[inside + 1]]
