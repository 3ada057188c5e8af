"""Which machine and which process record a run, and what those left that are gone.

The store in a home is written by one machine at a time (tasks/host/one_machine.py). Where another
one does, this one has a journal of its own beside it.

A process that records holds a lock of the operating system (flock) on `<home>/recorders/<id>.lock`,
and its runs have that id as a tag. The lock ends with the process, however it ends; then anyone may
take it, close its runs and copy them. The file's time is when the process recorded last.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tasks.home import Home
from tasks.host.one_machine import other_writer
from tasks.host.redaction import is_remote, redacted, tracking_uri
from tasks.tracking.store import rows_of
from tasks.tracking.tags import (
    MIRROR_STATE_TAG,
    MIRROR_TAG,
    RECORDER_TAG,
    REFUSED,
    WAITING,
)

TAG = "(select value from tags where run_uuid = runs.run_uuid and key = '{}')"
RUNS = (
    f"select run_uuid, name, status, {TAG.format(RECORDER_TAG)} as recorder, "
    f"{TAG.format(MIRROR_TAG)}, {TAG.format(MIRROR_STATE_TAG)} as state from runs "
    "where lifecycle_stage = 'active' and recorder is not null "
    # A child that began in the millisecond of its parent was opened after it.
    "and (status = 'RUNNING' or state in (?, ?)) order by start_time, rowid"
)


@dataclass(frozen=True)
class OpenRun:
    """A run of the home's own store that is not closed, or of which a server lacks something."""

    id: str
    name: str
    status: str
    recorder: str
    uri: str | None
    state: str | None


def open_runs(home: Path) -> list[OpenRun]:
    """Those of all processes, the oldest first."""
    return [OpenRun(*row) for row in rows_of(home, RUNS, (WAITING, REFUSED))]


@lru_cache(maxsize=32)
def journal(home: Path) -> Path:
    """The folder of the store that this process records in, until it ends.

    Raises ValueError where another machine records in the home, and MLFLOW_TRACKING_URI names no
    server that is told of the runs of both.
    """
    uri = tracking_uri(home)
    for folder in map(Home(home).journal, itertools.count(1)):
        if (other := other_writer(folder)) is None:
            return folder
        if not is_remote(uri):
            raise ValueError(
                f"MLFLOW_TRACKING_URI must name a server (http or https) on all machines that "
                f"record in {home} at the same time, which {other} does now, got {redacted(uri)}"
            )
    raise AssertionError("one of them is free")


def waiting(home: str | Path) -> int:
    """How many runs wait for `rosita sync`: not copied to the end, and no process copies them."""
    count = 0
    for folder in _readable(Path(home)):
        runs = [run for run in open_runs(folder) if run.state == WAITING]
        free = {one for one in {run.recorder for run in runs} if not is_recording(folder, one)}
        count += sum(run.recorder in free for run in runs)
    return count


def refused(home: str | Path) -> int:
    """Of how many runs a server has refused something."""
    folders = _readable(Path(home))
    return sum(run.state == REFUSED for folder in folders for run in open_runs(folder))


def _readable(home: Path) -> list[Path]:
    """The journals that no other machine writes."""
    return [one for one in Home(home).journals() if other_writer(one, keep=False) is None]


def hold(home: Path, recorder: str) -> int:
    """Begin to record as a new process; the lock ends with it. Raises OSError."""
    path = Home(home).recorder(recorder)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink > 0:
            return descriptor
        # Somebody took it for that of a process that is gone.
        os.close(descriptor)


def is_recording(home: Path, recorder: str) -> bool:
    """Whether the process lives; changes nothing."""
    try:
        descriptor = os.open(Home(home).recorder(recorder), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def taken(home: Path, recorder: str) -> Iterator[bool]:
    """Whether the runs of a process are ours in the block, since it is gone.

    Its lock is removed when the block ends well and nothing of it is open any more.
    """
    path = Home(home).recorder(recorder)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        # It may have been removed between the two calls, by one who has done all of it.
        mine = os.fstat(descriptor).st_nlink > 0
        yield mine
        left = [run for run in open_runs(home) if run.recorder == recorder]
        if mine and all(run.state == REFUSED for run in left):
            path.unlink()
    finally:
        os.close(descriptor)


def recorded_last(home: Path, recorder: str) -> int:
    """When a process recorded last, in milliseconds since 1970."""
    return int(Home(home).recorder(recorder).stat().st_mtime * 1000)
