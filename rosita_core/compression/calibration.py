"""The rows that a model is measured on: one sample without replacement for every method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rosita_core.data.encoding import Encoded
from rosita_core.data.framing import Framing
from rosita_core.training.batches import Batch, collate, shuffled_batches

MOST_ROWS = 2_048
"""Where a recipe does not say how many."""


@dataclass(frozen=True)
class Calibration:
    """Which rows, and how they are batched.

    Attributes:
        rows: how many; None for 2,048, or all where there are fewer.
        batch_size: rows of a mini-batch.
        max_length: tokens per sequence.
        seed: of the sample, and of its batches.
    """

    rows: int | None
    batch_size: int
    max_length: int
    seed: int

    def batches(self, data: Encoded, framing: Framing) -> Iterator[Batch]:
        """The batches, of rows of like lengths."""
        chosen = self.chosen(len(data))
        lengths = data.lengths[chosen]
        for rows in shuffled_batches(lengths, self.batch_size, False, self.seed, 0):
            yield collate(data, chosen[rows], self.max_length, framing, False)

    def count(self, available: int) -> int:
        """How many rows are wanted of so many."""
        return min(MOST_ROWS, available) if self.rows is None else self.rows

    def chosen(self, available: int) -> np.ndarray:
        """Indices of the rows, ascending.

        Raises:
            ValueError: where there are fewer rows than wanted.
        """
        count = self.count(available)
        if count > available:
            raise ValueError(
                f"compress.calibration.rows must be at most {available}, the training rows, "
                f"got {count}"
            )
        order = np.random.default_rng(self.seed).permutation(available)
        return np.sort(order[:count])
