"""Several cells at a time, each in a process of its own, through Prefect's task runner.

Processes, because torch's random state is one per process. Cells that need the same stage at the
same time are told apart by the stage locks: one computes it and the others wait for its result.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from prefect import task
from prefect.futures import PrefectFuture
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner

from flows.grid_cell import CellWork
from flows.grid_process import POLL_SECONDS, prepare, work_on

Document = dict[str, Any] | None


@task(name="cell", task_run_name="{work.cell}")
def run_cell(work: CellWork) -> Document:
    """One cell; its document, or None where a signal stopped it."""
    # Prefect sends the body of a task with everything that it names, so it names little.
    return work_on(work)


@contextmanager
def one_server() -> Iterator[None]:
    """One Prefect server for all processes of the block; each would start its own otherwise.

    It is the temporary one that this process has already, and ends with this process.
    """
    if get_current_settings().api.url:
        yield
        return
    server = SubprocessASGIServer()
    server.start()
    before = os.environ.get("PREFECT_API_URL")
    os.environ["PREFECT_API_URL"] = server.api_url
    try:
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            yield
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        if before is not None:
            os.environ["PREFECT_API_URL"] = before


def run_cells(
    works: Sequence[CellWork],
    choose: Callable[[Sequence[str], Sequence[str]], str],
    started: Callable[[str], None],
    ended: Callable[[str, Document], None],
) -> None:
    """Run cells, as many at a time as `works` say.

    Args:
        works: of the cells.
        choose: from ids of the cells that wait, and of those that run, the next one.
        started, ended: told of every cell; None is a cell that was interrupted.
    """
    waiting = {work.cell: work for work in works}
    running: dict[str, PrefectFuture[Document]] = {}
    with ProcessPoolTaskRunner(max_workers=works[0].processes, initializer=prepare) as runner:
        try:
            while waiting or running:
                while waiting and len(running) < works[0].processes:
                    cell = choose(tuple(waiting), tuple(running))
                    work = waiting.pop(cell)
                    running[cell] = runner.submit(run_cell, {"work": work})
                    started(cell)
                _collect(running, ended)
        except BaseException:
            _stop(running, ended)
            raise


def _collect(
    running: dict[str, PrefectFuture[Document]], ended: Callable[[str, Document], None]
) -> None:
    """Wait a moment; tell of the cells that ended meanwhile and take them out of `running`."""
    time.sleep(POLL_SECONDS)
    for cell, future in list(running.items()):
        with suppress(TimeoutError):
            future.wait(timeout=0)
        if future.state.is_final():
            del running[cell]
            ended(cell, future.result())


def _stop(
    running: dict[str, PrefectFuture[Document]], ended: Callable[[str, Document], None]
) -> None:
    """Ask the processes to save and stop, and wait until they have."""
    try:
        _terminate()
        while running:
            _collect(running, ended)
    except BaseException:
        # A second signal: they stop without saving.
        _terminate()
        raise


def _terminate() -> None:
    for process in multiprocessing.active_children():
        if process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
