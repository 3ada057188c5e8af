"""Several cells at a time, each in a process of its own, through Prefect's task runner.

Processes, because torch's random state is one per process. Cells that need the same stage at the
same time are told apart by the stage locks: one computes it and the others wait for its result.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from prefect import task
from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner

from flows.grid_cell import CellWork, carry_out
from tasks.progress import progress_display

POLL_SECONDS = 0.2
ORPHAN_SECONDS = 2.0

Document = dict[str, Any] | None
_busy = threading.Event()


@task(name="cell", task_run_name="{work.cell}")
def run_cell(work: CellWork) -> Document:
    """One cell; its document, or None where a signal stopped it."""
    _busy.set()
    try:
        return carry_out(work)
    except (KeyboardInterrupt, TerminationSignal):
        return None
    finally:
        _busy.clear()


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
    with ProcessPoolTaskRunner(max_workers=works[0].processes, initializer=_prepare) as runner:
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


def _prepare() -> None:
    """What a process does first: it is stopped by its parent alone, which also speaks for it."""
    os.setpgid(0, 0)
    progress_display().silent = True
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    """End with the parent, however it ended: first by saving, as any signal does."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    while _busy.is_set():
        time.sleep(POLL_SECONDS)
    os._exit(1)
