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


def measure_latency(
    model: RositaForSequenceClassification,
    batch_sizes: tuple[int, ...],
    lengths: tuple[int, ...],
    repeats: int,
    warmup: int,
    seed: int,
    placement: Placement,
) -> tuple[Latency, ...]:
    """Latency of one model; see `measure_side_by_side`."""
    together = measure_side_by_side(
        {"model": model}, batch_sizes, lengths, repeats, warmup, seed, placement
    )
    return together["model"]


def measure_side_by_side(
    models: Mapping[str, RositaForSequenceClassification],
    batch_sizes: tuple[int, ...],
    lengths: tuple[int, ...],
    repeats: int,
    warmup: int,
    seed: int,
    placement: Placement,
) -> dict[str, tuple[Latency, ...]]:
    """Latency of every model for every batch size and length.

    Models take turns, round by round, so that whatever else the machine does meets all of them
    alike. Each timed pass follows an untimed one of the same model: otherwise a small model would
    be charged for the caches that a large one has just emptied, which serving it alone does not.

    Args:
        models: in eval mode, on the device of `placement`.
        batch_sizes, lengths: every B is combined with every T.
        repeats: timed passes of each model for each combination.
        warmup: rounds that are not counted.
        seed: of the token ids, which are uniform over the ids that all models know; every model
            reads the same ones.
        placement: device and precision.

    Returns:
        For every model its latencies, batch sizes outermost, in the order given.

    Raises:
        ValueError: see `check_latency_request`.
    """
    check_latency_request(models, batch_sizes, lengths, repeats, warmup)
    vocabulary = min(model.config.vocab_size for model in models.values())
    found: dict[str, list[Latency]] = {name: [] for name in models}
    with torch.inference_mode(), placement.autocast():
        for batch_size in batch_sizes:
            for tokens in lengths:
                inputs = _random_inputs(batch_size, tokens, vocabulary, seed, placement)
                times: dict[str, list[int]] = {name: [] for name in models}
                for turn in range(warmup + repeats):
                    for name, model in models.items():
                        _timed(model, inputs, placement)
                        spent = _timed(model, inputs, placement)
                        if turn >= warmup:
                            times[name].append(spent)
                for name, spent_ns in times.items():
                    found[name].append(latency_of(batch_size, tokens, spent_ns))
    return {name: tuple(latencies) for name, latencies in found.items()}


def check_latency_request(
    models: Mapping[str, RositaForSequenceClassification],
    batch_sizes: tuple[int, ...],
    lengths: tuple[int, ...],
    repeats: int,
    warmup: int,
) -> None:
    """Refuse what cannot be measured, before anything is.

    Raises:
        ValueError: for no models, batch sizes or lengths, a size or `repeats` below 1, `warmup`
            below 0, a length above a model's positions, or a model in train mode.
    """
    for field, values in (("models", models), ("batch_sizes", batch_sizes), ("lengths", lengths)):
        if not len(values):
            raise ValueError(f"{field} must have at least 1 entry to measure latency, got 0")
    for field, number, least in (
        ("batch_sizes", min(batch_sizes), 1),
        ("lengths", min(lengths), 1),
        ("repeats", repeats, 1),
        ("warmup", warmup, 0),
    ):
        if number < least:
            raise ValueError(f"{field} must be at least {least} to measure latency, got {number}")
    for name, model in models.items():
        positions = model.config.max_position_embeddings
        if max(lengths) > positions:
            raise ValueError(
                f"lengths must be at most {positions}, the positions of {name}, got {max(lengths)}"
            )
        if model.training:
            raise ValueError(f"{name} must be in eval mode to measure latency, got train mode")


def _random_inputs(
    batch_size: int, tokens: int, vocabulary: int, seed: int, placement: Placement
) -> dict[str, torch.Tensor]:
    random = np.random.default_rng([seed, batch_size, tokens])
    ids_BT = torch.from_numpy(random.integers(0, vocabulary, (batch_size, tokens)))
    ids_BT = ids_BT.to(placement.device)
    # All three inputs, as a tokenizer gives them.
    return {
        "input_ids": ids_BT,
        "attention_mask": torch.ones_like(ids_BT),
        "token_type_ids": torch.zeros_like(ids_BT),
    }


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
