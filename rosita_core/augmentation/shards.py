"""The rows of an unfinished augmentation in checkpoints: what came since the last one is a shard.

Earlier shards are linked into each new checkpoint and not copied, so that a checkpoint writes what
is new in it; where the filesystem has no hard links it writes them all. Between two checkpoints,
which may be far apart or never come, at most `ROWS_IN_MEMORY` rows and a batch are held: more are
written to scratch, as shards that the next checkpoint links.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa

from rosita_core.training.checkpoints import Checkpoints, link_or_copy, read_state, write_state

PATTERN = "rows-*.arrow"
ROWS_IN_MEMORY = 2**16


class Shards:
    """The shards of one augmentation.

    Attributes:
        done: original rows whose variants the shards hold.
    """

    def __init__(self, checkpoints: Checkpoints, total: int, scratch: Path) -> None:
        """`scratch` is an empty folder, which the caller removes."""
        self._checkpoints = checkpoints
        self._total = total
        self._scratch = scratch
        self._folder = checkpoints.latest()
        self.done: int = 0 if self._folder is None else read_state(self._folder)["rows"]
        self._new: list[pa.RecordBatch] = []

    def read(self) -> Iterator[pa.RecordBatch]:
        """The rows of the shards that there were at the start, in order."""
        for path in self._paths():
            with pa.memory_map(str(path)) as source:
                yield from _batches(source)

    def kept(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """`batches` as they are, each written into the next checkpoint that is due after it."""
        for batch in batches:
            yield batch
            self._new.append(batch)
            self.done = batch.column("origin")[-1].as_py() + 1
            if sum(one.num_rows for one in self._new) >= ROWS_IN_MEMORY:
                _write_batches(self._new, self._scratch / _name(len(self._aside())))
                self._new = []
            self._save_if_due()

    def watched(self, frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """`frames` as they are; between two of them the work can be stopped.

        Nothing is new in them, so that a checkpoint is written only for rows that the last one
        does not hold yet.
        """
        for frame in frames:
            yield frame
            if self._new or self._aside():
                self._save_if_due()
            elif self._checkpoints.due(self.done):
                self._checkpoints.stop_if_asked(self.done, self._total)

    def _save_if_due(self) -> None:
        if self._checkpoints.due(self.done):
            self._folder = self._checkpoints.save(self.done, self._total, self._write)
            self._new = []
            for path in self._aside():
                path.unlink()

    def _write(self, folder: Path) -> None:
        shards = [*self._paths(), *self._aside()]
        for number, path in enumerate(shards):
            link_or_copy(path, folder / _name(number))
        if self._new:
            _write_batches(self._new, folder / _name(len(shards)))
        write_state(folder, {"rows": self.done})

    def _paths(self) -> list[Path]:
        return [] if self._folder is None else sorted(self._folder.glob(PATTERN))

    def _aside(self) -> list[Path]:
        return sorted(self._scratch.glob(PATTERN))


def _name(number: int) -> str:
    return PATTERN.replace("*", f"{number:06d}")


def _write_batches(batches: list[pa.RecordBatch], path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _batches(source: pa.MemoryMappedFile) -> Iterator[pa.RecordBatch]:
    reader = pa.ipc.open_file(source)
    for index in range(reader.num_record_batches):
        yield reader.get_batch(index)
