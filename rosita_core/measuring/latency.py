"""How long a forward pass takes, of one model or of several under the same conditions.

Letters: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from rosita_core.measuring.random_inputs import random_inputs
from rosita_core.training.placement import Placement

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

NANOSECONDS_PER_MILLISECOND = 1e6


@dataclass(frozen=True)
class Latency:
    """The time of one forward pass, from token ids on the device to logits.

    Attributes:
        batch_size: B.
        tokens: T, none of them padding.
        p50_ms: median in milliseconds.
        p95_ms: 95th percentile in milliseconds, interpolated.
        repeats: timed passes.
    """

    batch_size: int
    tokens: int
    p50_ms: float
    p95_ms: float
    repeats: int


def measure_side_by_side(
    models: Mapping[str, RositaForSequenceClassification],
    batch_size: int,
    tokens: int,
    repeats: int,
    warmup: int,
    seed: int,
    placement: Placement,
) -> dict[str, Latency]:
    """Latency of every model for batches of one size.

    Models take turns, round by round, so that whatever else the machine does meets all of them
    alike. Each timed pass follows an untimed one of the same model: otherwise a small model would
    be charged for the caches that a large one has just emptied, which serving it alone does not.

    Args:
        models: in eval mode, on the device of `placement`.
        batch_size, tokens: B and T.
        repeats: timed passes of each model.
        warmup: rounds that are not counted.
        seed: of the token ids, which are uniform over the ids that all models know; every model
            reads the same ones.
        placement: device and precision.

    Raises:
        ValueError: see `check_latency_request`.
    """
    check_latency_request(models, (batch_size,), tokens, repeats, warmup)
    vocabulary = min(model.config.vocab_size for model in models.values())
    arrays = random_inputs(batch_size, tokens, vocabulary, seed)
    inputs = {name: torch.from_numpy(one).to(placement.device) for name, one in arrays.items()}
    times: dict[str, list[int]] = {name: [] for name in models}
    with torch.inference_mode(), placement.autocast():
        for turn in range(warmup + repeats):
            for name, model in models.items():
                _timed(model, inputs, placement)
                spent = _timed(model, inputs, placement)
                if turn >= warmup:
                    times[name].append(spent)
    return {name: latency_of(batch_size, tokens, spent_ns) for name, spent_ns in times.items()}


def check_latency_request(
    models: Mapping[str, RositaForSequenceClassification],
    batch_sizes: tuple[int, ...],
    tokens: int,
    repeats: int,
    warmup: int,
) -> None:
    """Refuse what cannot be measured, before anything is.

    Raises:
        ValueError: for no models or batch sizes, a number below 1, `warmup` below 0, more tokens
            than a model has positions, or a model in train mode.
    """
    for field, values in (("models", models), ("batch_sizes", batch_sizes)):
        if not len(values):
            raise ValueError(f"{field} must have at least 1 entry to measure latency, got 0")
    for field, number, least in (
        ("batch_size", min(batch_sizes), 1),
        ("tokens", tokens, 1),
        ("repeats", repeats, 1),
        ("warmup", warmup, 0),
    ):
        if number < least:
            raise ValueError(f"{field} must be at least {least} to measure latency, got {number}")
    for name, model in models.items():
        positions = model.config.max_position_embeddings
        if tokens > positions:
            raise ValueError(
                f"tokens must be at most {positions}, the positions of {name}, got {tokens}"
            )
        if model.training:
            raise ValueError(f"{name} must be in eval mode to measure latency, got train mode")


def _timed(
    model: RositaForSequenceClassification, inputs: dict[str, torch.Tensor], placement: Placement
) -> int:
    """Nanoseconds of one pass."""
    _finish_queued_work(placement)
    started = time.perf_counter_ns()
    model(**inputs)
    _finish_queued_work(placement)
    return time.perf_counter_ns() - started


def _finish_queued_work(placement: Placement) -> None:
    device = torch.device(placement.device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def latency_of(batch_size: int, tokens: int, spent_ns: list[int]) -> Latency:
    p50, p95 = np.percentile(np.asarray(spent_ns) / NANOSECONDS_PER_MILLISECOND, [50, 95])
    return Latency(batch_size, tokens, float(p50), float(p95), len(spent_ns))
