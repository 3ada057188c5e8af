"""What a process that runs cells for another does: it works, stops when told, and shows nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextvars import copy_context
from types import FrameType
from typing import Any

from prefect.exceptions import TerminationSignal
from prefect.transactions import BaseTransaction

from flows.grids.cell import CellWork, carry_out
from tasks.host.terminal import progress_display

POLL_SECONDS = 0.2
ORPHAN_SECONDS = 2.0

_busy = threading.Event()
_told_to_stop = threading.Event()


def work_on(work: CellWork) -> dict[str, Any] | None:
    """One cell; its document, or None where a signal stopped it."""
    if _told_to_stop.is_set():
        return None
    _busy.set()
    try:
        return copy_context().run(_alone, work)
    except (KeyboardInterrupt, TerminationSignal):
        return None
    finally:
        _busy.clear()


def _alone(work: CellWork) -> dict[str, Any]:
    """The cell outside of the transaction of the task that it runs in.

    Inside, Prefect would hold back the results and the locks of its stages until the cell is done:
    other cells would wait for all of it, and a kill would lose all of it.
    """
    BaseTransaction.__var__.set(None)  # type: ignore[arg-type]
    return carry_out(work)


def prepare() -> None:
    """Before the first cell: the parent alone stops this process, and speaks for it."""
    # Ctrl-C reaches every process of a terminal's group; here the parent passes it on, once.
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, _terminated)
    # It waited since this process was started.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    progress_display().silent = True
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _terminated(number: int, frame: FrameType | None) -> None:
    """Prefect sends a signal that a flow has heeded once more, which must not end the process."""
    if _busy.is_set():
        raise TerminationSignal(signal=number)
    # A process that waits for work may hold the lock of the queue that the others read from: it
    # ends with the pool.
    _told_to_stop.set()


def _watch(parent: int) -> None:
    """End with the parent, however it ended: first by saving, as any signal does."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    while _busy.is_set():
        time.sleep(POLL_SECONDS)
    os._exit(1)
