"""What a training does, seen from outside and alike for every contender.

Whoever trains calls the model's `forward`, `Tensor.backward` and an optimizer's `step`; these three
are watched for a block. Nothing is read from a GPU until the training has ended: a step ends where
its kernels do, not where they were asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from rosita_core.model.modeling_rosita import RositaForSequenceClassification
from tests.bench.contenders import DEVICE

WARMUP = 5
"""Steps that are not timed, where there are more."""


class Moment:
    """When the work that was asked for so far is done."""

    def __init__(self) -> None:
        self._at: Any = time.perf_counter()
        if DEVICE == "cuda":
            self._at = torch.cuda.Event(enable_timing=True)
            self._at.record()

    def seconds_until(self, later: Moment) -> float:
        if DEVICE == "cuda":
            later._at.synchronize()
            return float(self._at.elapsed_time(later._at)) / 1e3
        return float(later._at - self._at)


@dataclass
class Watched:
    """Of each step: when it ended, its rows, its tokens and its positions, padding included."""

    ended: list[Moment] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    tokens: list[torch.Tensor] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)

    @property
    def examples_per_second(self) -> float:
        """Of the steps after the first few."""
        first = min(WARMUP, len(self.ended) - 1)
        return sum(self.rows[first:]) / self.ended[first - 1].seconds_until(self.ended[-1])

    @property
    def padding(self) -> float:
        """What share of the student's positions is padding."""
        return 1 - sum(int(one) for one in self.tokens) / sum(self.positions)


@contextmanager
def replaced(owner: Any, name: str, made: Callable[[Any], Any]) -> Iterator[None]:
    """`owner.name` is what `made` makes of it; for a block."""
    before = getattr(owner, name)
    setattr(owner, name, made(before))
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def watched() -> Iterator[Watched]:
    """Watch the trainings of a block."""
    seen = Watched()

    def counting(forward: Any) -> Any:
        # The Trainer asks it for its parameters.
        @wraps(forward)
        def counted(
            self: Any, input_ids: Any = None, attention_mask: Any = None, *a: Any, **k: Any
        ) -> Any:
            # Only the student takes gradients.
            if torch.is_grad_enabled():
                seen.rows.append(len(attention_mask))
                seen.tokens.append(attention_mask.sum())
                seen.positions.append(attention_mask.numel())
            return forward(self, input_ids, attention_mask, *a, **k)

        return counted

    def noting(backward: Any) -> Any:
        def noted(self: torch.Tensor, *a: Any, **k: Any) -> None:
            seen.losses.append(self.detach())
            backward(self, *a, **k)

        return noted

    def step_ended(*_: Any) -> None:
        seen.ended.append(Moment())

    hook = register_optimizer_step_post_hook(step_ended)
    try:
        with (
            replaced(RositaForSequenceClassification, "forward", counting),
            replaced(torch.Tensor, "backward", noting),
        ):
            yield seen
    finally:
        hook.remove()
