"""Where stages are computed: in this process, or on workers (`tasks.execution.workers`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

from tasks.cache.records import Context
from tasks.cache.stage_key import Stage
from tasks.execution.work import Computed, Listener, Work

Compute = Callable[[Work], Computed]
"""Computes a stage; a module's own function, so that a worker finds it by its name."""
Slot = Callable[[Compute, Stage, Context, Listener], Computed]
"""Room for one stage: gives what `compute` returns there. Raises WorkerLost where it is gone."""


class WorkerLost(RuntimeError):
    """The process that computed a stage is gone; what it had saved is there."""


class Place(Protocol):
    """Something with slots."""

    def slot(self, stage: Stage, context: Context) -> AbstractContextManager[Slot]:
        """A slot for the length of the block, waited for by the order of the stages."""


_place: ContextVar[Place | None] = ContextVar("place", default=None)


@contextmanager
def computed_at(place: Place) -> Iterator[None]:
    """Stages of the block are computed there; elsewhere in the process and thread of the caller."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


def slot_for(stage: Stage, context: Context) -> AbstractContextManager[Slot]:
    """A slot where the stages of this flow run are computed."""
    place = _place.get()
    return nullcontext(_compute_here) if place is None else place.slot(stage, context)


def _compute_here(compute: Compute, stage: Stage, context: Context, listener: Listener) -> Computed:
    return compute(Work(stage, context, listener))
