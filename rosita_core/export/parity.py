"""Whether a model in another format says what the checkpoint says.

Letters: B batch, N rows, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from rosita_core.data.encoding import Encoded
from rosita_core.data.framing import Framing
from rosita_core.model.classifier import Classifier
from rosita_core.training.batches import Batch, batches_per_epoch, collate, ordered_batches

ALONE = 500
"""Rows that are read once more by themselves, without padding: all, or so many of all lengths."""


@dataclass(frozen=True)
class Answers:
    """What one model says of all rows.

    Attributes:
        logits_NC: in the order of the rows.
        worst: the largest absolute difference from the reference at the same padding; infinite
            where a number is none.
    """

    logits_NC: np.ndarray
    worst: float


def compare(
    reference: Classifier,
    models: Mapping[str, Classifier],
    data: Encoded,
    framing: Framing,
    batch_size: int,
    max_length: int,
    done: Callable[[], None],
) -> dict[str, Answers]:
    """Every model beside `reference`, on padded batches of all rows and on rows alone.

    All compute in float32 on the CPU, in eval mode. `done` is called after each of `passes`.
    """
    logits = {name: np.zeros((len(data), reference.config.outputs), np.float32) for name in models}
    worst = dict.fromkeys(models, 0.0)
    with torch.inference_mode():
        for rows, batch in _batches(data, framing, batch_size, max_length):
            expected_BC = _logits(reference, batch)
            for name, model in models.items():
                found_BC = _logits(model, batch)
                difference = float(np.abs(found_BC - expected_BC).max())
                worst[name] = max(worst[name], np.nan_to_num(difference, nan=np.inf, posinf=np.inf))
                if len(rows):
                    logits[name][rows] = found_BC
            done()
    return {name: Answers(logits[name], worst[name]) for name in models}


def passes(rows: int, batch_size: int) -> int:
    """How many batches `compare` reads of so many rows."""
    return batches_per_epoch(rows, batch_size, False) + min(rows, ALONE)


def _logits(model: Classifier, batch: Batch) -> np.ndarray:
    output = model(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    found_BC: np.ndarray = output.logits.numpy()
    return found_BC


def _batches(
    data: Encoded, framing: Framing, batch_size: int, max_length: int
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Batches of all rows with their indices; then rows alone, with none."""
    yield from ordered_batches(data, batch_size, max_length, framing)
    by_length = np.argsort(data.lengths, kind="stable")
    chosen = by_length[np.linspace(0, len(data) - 1, min(len(data), ALONE)).astype(int)]
    for row in chosen:
        yield np.array([], int), collate(data, np.array([row]), max_length, framing, False)
