"""What is asked of other processes, each of which may end while it is asked.

psutil raises for a process that is gone, and for one that has ended and that nobody has waited for
yet (`ZombieProcess`): both do nothing any more, so that a test has to read them alike.
"""

from __future__ import annotations

from collections.abc import Iterable

import psutil


def lives(process: psutil.Process) -> bool:
    """Whether it still does anything."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def words(process: psutil.Process) -> list[str]:
    """Its command line; none once it has ended."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def listening(processes: Iterable[psutil.Process]) -> set[str]:
    """The addresses at which any of them waits for connections."""
    found = set()
    for process in processes:
        try:
            connections = process.net_connections("inet")
        except psutil.NoSuchProcess:
            continue
        found |= {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    return found
