"""What runs on a worker of a cluster: whether it fits, a cell, and the wish that cells stop.

A worker runs cells in a thread of its own, one at a time; signals are its operator's.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from flows.grids.cell import CellWork
from flows.grids.executors.process_entry import work_on
from tasks.cache.source_closure import source_closure
from tasks.home import home_directory
from tasks.host.signals import forget_signals, request_stop
from tasks.host.terminal import progress_display
from tasks.store.artifacts import json_digest

# Every stage that trains imports what the others do.
KERNEL = "rosita_core.stages.width"
ANSWER_SECONDS = 10.0


def probe(token: str, api_url: str) -> dict[str, Any]:
    """What must be right for a worker to run cells.

    Args:
        token: name of a file that the caller made in its own home.
        api_url: of the Prefect server that all report to.

    Returns `home`, `sees` (whether the file is in it), `reaches` (whether the server answers) and
    `code` (a digest of the kernels here).
    """
    home = home_directory()
    return {
        "home": str(home),
        "sees": (home / Path(token)).exists(),
        "reaches": _answers(f"{api_url.rstrip('/')}/health"),
        "code": code_digest(),
    }


def code_digest() -> str:
    """The digest of the kernels that this process would run."""
    return json_digest(source_closure([KERNEL]).modules)


def run_there(work: CellWork) -> dict[str, Any] | None:
    """One cell; its document, or None where it was asked to stop."""
    progress_display().silent = True
    # What stopped the last cell is not meant for this one.
    forget_signals()
    return work_on(work)


def stop_there() -> None:
    """Let the cell that runs here save a checkpoint and stop."""
    request_stop()


def leave_group() -> None:
    """Ctrl-C at the terminal of a grid is for the grid alone, which then asks its workers."""
    os.setpgid(0, 0)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError as error:
        # A server that wants to know who asks is there.
        return error.code in (401, 403)
    except OSError:
        return False
