"""Several cells at a time, each in a process of its own, through one of Prefect's task runners.

Processes, because torch's random state is one per process. Cells that need the same stage at the
same time are told apart by the stage locks: one computes it and the others wait for its result.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol

from prefect import task
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner

from flows.grids.cell import CellWork
from flows.grids.executors.process_entry import POLL_SECONDS, prepare, work_on

Document = dict[str, Any] | None
KILLED = "its process was killed, as the system does when memory runs out"


@task(name="cell", task_run_name="{work.cell}")
def run_cell(work: CellWork) -> Document:
    """One cell; its document, or None where a signal stopped it."""
    # Prefect sends the body of a task with everything that it names, so it names little.
    return work_on(work)


class Pool(Protocol):
    """Where cells run."""

    @property
    def size(self) -> int:
        """How many cells run at a time."""

    def started(self) -> AbstractContextManager[None]:
        """The pool is there for the length of the block."""

    def submit(self, work: CellWork) -> PrefectFuture[Document]:
        """Start a cell, or queue it."""

    def is_done(self, future: PrefectFuture[Document]) -> bool:
        """Whether the cell has ended, in whatever way."""

    def result(self, future: PrefectFuture[Document]) -> Document:
        """What came of a cell that has ended; None where it was interrupted or never began."""

    def stop(self) -> None:
        """Ask the cells that run to save a checkpoint and stop, and begin no other."""


@contextmanager
def _signals_wait() -> Iterator[None]:
    """A process that starts here hears SIGTERM when it is prepared for it, and not before.

    One that a signal ends while it still imports would break the pool, which then signals the
    others once more; they would stop without saving. The mask is inherited: by the thread of the
    runner that starts the processes, and from there by them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


class Processes:
    """A pool of processes of this machine."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._runner: ProcessPoolTaskRunner | None = None

    @contextmanager
    def started(self) -> Iterator[None]:
        with ProcessPoolTaskRunner(max_workers=self.size, initializer=prepare) as runner:
            self._runner = runner
            yield

    def submit(self, work: CellWork) -> PrefectFuture[Document]:
        assert self._runner is not None
        with _signals_wait():
            return self._runner.submit(run_cell, {"work": work})

    def is_done(self, future: PrefectFuture[Document]) -> bool:
        with suppress(TimeoutError):
            future.wait(timeout=0)
        return future.state.is_final()

    def result(self, future: PrefectFuture[Document]) -> Document:
        return future.result()

    def stop(self) -> None:
        for process in multiprocessing.active_children():
            if process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)


def run_cells(
    works: Sequence[CellWork],
    pool: Pool,
    choose: Callable[[Sequence[str], Sequence[str]], str],
    started: Callable[[str], None],
    ended: Callable[[str, Document], None],
) -> None:
    """Run cells, as many at a time as the pool has room for.

    Args:
        works: of the cells.
        pool: where they run.
        choose: from ids of the cells that wait, and of those that run, the next one.
        started, ended: told of every cell; None is a cell that was interrupted.
    """
    waiting = {work.cell: work for work in works}
    while waiting:
        now: dict[str, PrefectFuture[Document]] = {}
        with pool.started():
            try:
                while waiting or now:
                    while waiting and len(now) < pool.size:
                        cell = choose(tuple(waiting), tuple(now))
                        now[cell] = pool.submit(waiting.pop(cell))
                        started(cell)
                    _collect(now, pool, ended)
            except BrokenProcessPool:
                # Its other processes end with one that was killed; the next cells get new ones.
                for cell in now:
                    ended(cell, {"status": "failed", "error": KILLED})
            except BaseException:
                _stop(now, pool, ended)
                raise


def _collect(
    now: dict[str, PrefectFuture[Document]], pool: Pool, ended: Callable[[str, Document], None]
) -> None:
    """Wait a moment; tell of the cells that ended meanwhile and take them out of `now`."""
    time.sleep(POLL_SECONDS)
    for cell, future in list(now.items()):
        if pool.is_done(future):
            del now[cell]
            ended(cell, pool.result(future))


def _stop(
    now: dict[str, PrefectFuture[Document]], pool: Pool, ended: Callable[[str, Document], None]
) -> None:
    """Ask the cells to save and stop, and wait until they have."""
    try:
        pool.stop()
        while now:
            _collect(now, pool, ended)
    except BrokenProcessPool:
        # One was killed before it had saved.
        for cell in now:
            ended(cell, None)
    except BaseException:
        # A second signal: they stop without saving.
        pool.stop()
        raise
