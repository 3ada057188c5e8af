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


class WorkerLost(RuntimeError):
    """The process that computed a stage is gone; what it had saved is there."""


class Slot(Protocol):
    """Room for one stage at a time."""

    def __call__(
        self, compute: Compute, stage: Stage, context: Context, listener: Listener
    ) -> Computed:
        """What `compute` returns.

        Raises:
            WorkerLost: where the slot is gone.
        """


class Place(Protocol):
    """Something with slots."""

    def slot(self, context: Context) -> AbstractContextManager[Slot]:
        """A slot for the length of the block, waited for by the order of the stages."""


class ThisProcess:
    """One slot, in the process and the thread of the caller."""

    def slot(self, context: Context) -> AbstractContextManager[Slot]:
        return nullcontext(_compute_here)


def _compute_here(compute: Compute, stage: Stage, context: Context, listener: Listener) -> Computed:
    return compute(Work(stage, context, listener))


_place: ContextVar[Place] = ContextVar("place")


def current_place() -> Place:
    """Where the stages of this flow run are computed; by default in this process."""
    return _place.get(ThisProcess())


@contextmanager
def computed_at(place: Place) -> Iterator[None]:
    """Stages of the block are computed there."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)
