"""What runs on a worker: a stage, the wish that it stops, and whether the worker fits.

A worker is a process of Dask's that computes in a thread, one stage at a time; signals are its
operator's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rosita_core.training.progress import Progress
from tasks.cache.records import Context
from tasks.cache.source_closure import source_closure
from tasks.cache.stage_key import Stage, library_versions
from tasks.execution.places import Compute
from tasks.execution.work import Computed, Work
from tasks.host.hardware import computes_with, cores
from tasks.host.signals import can_save, forget_signals, request_stop
from tasks.host.terminal import progress_display
from tasks.store.artifacts import json_digest

if TYPE_CHECKING:
    from distributed import Worker

WATCH_SECONDS = 1.0
_topic: str | None = None
"""Of the stage that runs here."""


@dataclass(frozen=True)
class _Teller:
    """Tells the flow's process what happens to a stage."""

    tell: Callable[[str, Any], None]

    def resumed(self, unit: int | None) -> None:
        self.tell("resumed", unit)

    def report(self, event: Progress) -> None:
        self.tell("report", dict(vars(event)))


def compute_there(
    compute: Compute, stage: Stage, context: Context, share: int, topic: str
) -> Computed | None:
    """A stage; None where it was asked to stop.

    Args:
        compute, stage, context: as `tasks.execution.attempt.carry_out` has them.
        share: processes of this machine that compute at the same time.
        topic: under which the flow's process listens; also Dask's key of this task.
    """
    from distributed import get_worker
    from prefect.exceptions import TerminationSignal

    global _topic
    worker = get_worker()

    def tell(what: str, value: Any) -> None:
        worker.log_event(topic, [what, value])

    if context.all_cores:
        context = context.model_copy(update={"threads": max(1, cores() // share)})
    progress_display().told = partial(tell, "line")
    # What stopped the last stage is not meant for this one.
    forget_signals()
    _topic = topic
    with _awaited(worker, topic):
        try:
            return compute(Work(stage, context, _Teller(tell)))
        except (KeyboardInterrupt, TerminationSignal):
            return None
        finally:
            _topic = None


@contextmanager
def _awaited(worker: Worker, key: str) -> Iterator[None]:
    """Ask the block to stop when nobody waits for it any longer, as when the flow was killed."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_SECONDS):
            task = worker.state.tasks.get(key)
            if task is None or task.state == "cancelled":
                request_stop()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def ask_to_stop(topics: tuple[str, ...]) -> bool:
    """Let the stage that runs here save a checkpoint and stop; whether it can.

    Args:
        topics: of the stages of one flow; another flow's goes on.
    """
    if _topic not in topics:
        return False
    request_stop()
    return can_save()


def probe(token: str, code: tuple[str, ...], devices: tuple[str, ...]) -> list[Any]:
    """What must be right for a worker to compute stages.

    Args:
        token: path of a file that the flow made in its home.
        code: modules that compute the stages.
        devices: that they compute on.

    Returns whether the file is there, `versions(code)`, and for each device what decides the bits
    of its numbers, or that there is none.
    """
    return [Path(token).exists(), versions(code), *map(_computes_with, devices)]


def versions(code: tuple[str, ...]) -> str:
    """A digest of the code that this process would run, and of the libraries that it uses."""
    closure = source_closure(code)
    return json_digest([closure.modules, library_versions(closure.packages)])


def _computes_with(device: str) -> str:
    try:
        return computes_with(device)
    except (AssertionError, RuntimeError) as error:
        return f"no such device ({error})"
