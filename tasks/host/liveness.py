"""Which process runs an attempt, and whether it still does.

A process that was killed cannot say so: its attempt says `running` for ever, and only the operating
system knows better.
"""

import os
import socket
from collections.abc import Mapping
from typing import Any

import psutil  # type: ignore[import-untyped]

RUNNING, DIED, UNKNOWN = "running", "died", "unfinished"
# Clock ticks of the kernel are a hundredth of a second.
SAME_SECONDS = 0.5


def this_process() -> dict[str, Any]:
    """What tells this process from every other one: host, pid, and when it was started."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": _started(os.getpid()),
    }


def attempt_state(record: Mapping[str, Any]) -> str:
    """What became of an attempt.

    Its `status`, but where that is `running`: "running" if its process is alive, "died" if it is
    not, "running on HOST" if it is one of another machine, which cannot be asked, and "unfinished"
    if the record does not say where it ran.
    """
    if record["status"] != RUNNING:
        return str(record["status"])
    host, started = record.get("host"), record.get("process_started")
    if host is None or started is None:
        return UNKNOWN
    if host != socket.gethostname():
        return f"{RUNNING} on {host}"
    now = _started(int(record["pid"]))
    # Another process may have the number of one that is gone.
    alive = now is not None and abs(now - float(started)) < SAME_SECONDS
    return RUNNING if alive else DIED


def may_run(record: Mapping[str, Any]) -> bool:
    """Whether an attempt runs, or nobody here can rule it out."""
    return record["status"] == RUNNING and attempt_state(record) != DIED


def process_began(record: Mapping[str, Any]) -> float | None:
    """When the process of an attempt was started, in seconds since 1970; None if nobody knows.

    Only the machine that it ran on knows.
    """
    started = record.get("process_started")
    if started is None or record.get("host") != socket.gethostname():
        return None
    return float(psutil.boot_time()) + float(started)


def is_stopped(pid: int) -> bool:
    """Whether a process of this machine was stopped, as Ctrl-Z and SIGSTOP do."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def _started(pid: int) -> float | None:
    """Seconds from the machine's start to the process's; None if there is no such process.

    Not the time of day, which moves for a running process when the clock is set.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return round(float(process.create_time()) - float(psutil.boot_time()), 2)
    except psutil.NoSuchProcess:
        return None
