"""Several cells at a time, each in a process of its own, through Prefect's task runner.

Processes, because torch's random state is one per process. Cells that need the same stage at the
same time are told apart by the stage locks: one computes it and the others wait for its result.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from prefect import task
from prefect.context import refresh_global_settings_context
from prefect.futures import PrefectFuture
from prefect.settings import get_current_settings
from prefect.task_runners import ProcessPoolTaskRunner

from flows.grid_cell import CellWork
from flows.grid_process import POLL_SECONDS, prepare, work_on
from flows.servers import HOST, prefect_server, running, wait_until_ready

Document = dict[str, Any] | None
KILLED = "its process was killed, as the system does when memory runs out"


@task(name="cell", task_run_name="{work.cell}")
def run_cell(work: CellWork) -> Document:
    """One cell; its document, or None where a signal stopped it."""
    # Prefect sends the body of a task with everything that it names, so it names little.
    return work_on(work)


def start_one_server(logs: Path) -> None:
    """One Prefect server for this process and those that it starts, unless they have one.

    Each would start a temporary one otherwise, which Ctrl-C at a terminal ends before the cells
    have saved what they were at. It stops when this process ends, after what Prefect still sends.

    Raises:
        ServerError: where it does not start.
    """
    if get_current_settings().api.url:
        return
    server = prefect_server(_free_port(), logs)
    with ExitStack() as stack:
        processes = stack.enter_context(running([server]))
        wait_until_ready([server], processes, threading.Event())
        atexit.register(stack.pop_all().close)
    # Of the process and not of a context: Prefect's own threads are to find it, too.
    os.environ["PREFECT_API_URL"] = f"{server.url}/api"
    refresh_global_settings_context()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


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
    while waiting:
        now: dict[str, PrefectFuture[Document]] = {}
        with ProcessPoolTaskRunner(max_workers=works[0].processes, initializer=prepare) as runner:
            try:
                while waiting or now:
                    while waiting and len(now) < works[0].processes:
                        cell = choose(tuple(waiting), tuple(now))
                        with _signals_wait():
                            now[cell] = runner.submit(run_cell, {"work": waiting.pop(cell)})
                        started(cell)
                    _collect(now, ended)
            except BrokenProcessPool:
                # Its other processes end with one that was killed; the next cells get new ones.
                for cell in now:
                    ended(cell, {"status": "failed", "error": KILLED})
            except BaseException:
                _stop(now, ended)
                raise


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


def _collect(
    now: dict[str, PrefectFuture[Document]], ended: Callable[[str, Document], None]
) -> None:
    """Wait a moment; tell of the cells that ended meanwhile and take them out of `now`."""
    time.sleep(POLL_SECONDS)
    for cell, future in list(now.items()):
        with suppress(TimeoutError):
            future.wait(timeout=0)
        if future.state.is_final():
            document = future.result()
            del now[cell]
            ended(cell, document)


def _stop(now: dict[str, PrefectFuture[Document]], ended: Callable[[str, Document], None]) -> None:
    """Ask the processes to save and stop, and wait until they have."""
    try:
        _terminate()
        while now:
            _collect(now, ended)
    except BrokenProcessPool:
        # One was killed before it had saved.
        for cell in now:
            ended(cell, None)
    except BaseException:
        # A second signal: they stop without saving.
        _terminate()
        raise


def _terminate() -> None:
    for process in multiprocessing.active_children():
        if process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
