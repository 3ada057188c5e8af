"""Batches of similar length: sorted by token count inside shuffled pools, padded to their longest.

Letters: B batch, T tokens, N rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from rosita_core.data.encoding import Encoded
from rosita_core.data.framing import Framing

BATCHES_PER_POOL = 50
SHORTEST = 3  # tokens: room for the special tokens of a pair


@dataclass(frozen=True)
class Batch:
    """Model inputs.

    Attributes:
        input_ids: (B, T) int64.
        attention_mask: (B, T) int64, 1 for tokens.
        token_type_ids: (B, T) int64, as the tokenizer gives them, 0 for padding.
        labels: (B,) int64 or float32.
        rows_share, tokens_share: of a part of a batch, what part of its rows and tokens: means
            over the part, times these, add up to means over the batch.
        rows: (B,) their numbers among the rows that they were read from; None where they were
            read from none.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor
    labels: torch.Tensor
    rows_share: float = 1.0
    tokens_share: float = 1.0
    rows: np.ndarray | None = None

    def to(self, device: str) -> Batch:
        """The batch on `device`."""
        return Batch(
            sent(self.input_ids, device),
            sent(self.attention_mask, device),
            sent(self.token_type_ids, device),
            sent(self.labels, device),
            self.rows_share,
            self.tokens_share,
            self.rows,
        )


def sent(tensor: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """A tensor on `device`; to CUDA through pinned memory, so that nothing waits for it."""
    pinned = torch.device(device).type == "cuda" and tensor.device.type == "cpu"
    return (tensor.pin_memory() if pinned else tensor).to(device, non_blocking=True)


def shuffled_batches(
    lengths: np.ndarray, batch_size: int, drop_last: bool, seed: int, epoch: int
) -> list[np.ndarray]:
    """Row indices of the batches of one epoch, every row once.

    Rows are shuffled, cut into pools of 50 batches, sorted by length inside a pool, cut into
    batches, and the batches shuffled: lengths in a batch are alike, its rows are random.

    Args:
        lengths: (N,) tokens per row.
        batch_size: rows per batch; the last batch may be smaller.
        drop_last: fidelity: the authors leave out the last partial batch.
        seed, epoch: decide the order.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    pool = batch_size * BATCHES_PER_POOL
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    if drop_last:
        batches = [rows for rows in batches if len(rows) == batch_size] or batches
    return [batches[i] for i in random.permutation(len(batches))]


def batches_per_epoch(rows: int, batch_size: int, drop_last: bool) -> int:
    """How many batches `shuffled_batches` makes of `rows` rows."""
    whole, rest = divmod(rows, batch_size)
    return whole + (1 if rest and not (drop_last and whole) else 0)


def ordered_batches(
    data: Encoded, batch_size: int, max_length: int, framing: Framing
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Every row once, longest first, with the indices of its rows: for evaluation."""
    order = np.argsort(-data.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, collate(data, rows, max_length, framing, False)


def collate(
    data: Encoded, rows: np.ndarray, max_length: int, framing: Framing, full_length: bool
) -> Batch:
    """The batch of `rows`, framed as their tokenizer does it, and cut to `max_length` tokens.

    Args:
        full_length: fidelity: pad to `max_length` and not to the longest row.
    """
    sequences = [
        framing.frame(data.first(int(row)), data.second(int(row)), max_length) for row in rows
    ]
    width = max_length if full_length else max(len(ids) for ids, _ in sequences)
    ids = np.full((len(rows), width), framing.pad, np.int64)
    types = np.zeros((len(rows), width), np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for i, (tokens, kinds) in enumerate(sequences):
        ids[i, : len(tokens)] = tokens
        types[i, : len(tokens)] = kinds
        mask[i, : len(tokens)] = 1
    labels = data.labels[rows]
    labels = labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)
    arrays = (ids, mask, types, labels)
    input_ids, attention_mask, token_type_ids, outputs = map(torch.from_numpy, arrays)
    return Batch(input_ids, attention_mask, token_type_ids, outputs, rows=rows)
