"""SQLite files that machines can reach together are written by one machine at a time.

A process that writes some holds a shared lock (flock) on a file in their folder, in which its
machine is named, as long as it lives. Processes of one machine share it. One of another machine
learns who has it, and writes nothing; when the last holder has ended, any machine may take it.

A machine is a running kernel, since SQLite's locks are sure between the processes of one: the
containers of a host are one machine, whatever they are called, and a container that starts anew on
another host finds the lock free. `ROSITA_MACHINE` gives a machine another name, which two need that
were resumed from one snapshot.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "machine.lock"
SQLITE = "sqlite:///"
MACHINE_VARIABLE = "ROSITA_MACHINE"
BOOT = Path("/proc/sys/kernel/random/boot_id")
# Others look for a moment, and a holder may end meanwhile.
TRIES, PAUSE_SECONDS = 5, 0.05

_held: dict[Path, int] = {}
_guard = threading.Lock()


def this_machine() -> str:
    """What tells this machine from others that run."""
    if named := os.environ.get(MACHINE_VARIABLE):
        return named
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def other_writer(folder: Path, keep: bool = True) -> str | None:
    """The host that writes the databases of a folder now; None where this machine may.

    Then it has that right until this process ends, unless `keep` is false: that only looks, and
    writes nothing where nobody has written before. Raises OSError.
    """
    path = folder.absolute() / LOCK
    with _guard:
        if path in _held:
            if os.fstat(_held[path]).st_nlink > 0:
                return None
            # The folder was removed, and another may be made.
            os.close(_held.pop(path))
        if not keep and not path.is_file():
            return None
        descriptor = _opened(path, keep)
        other: str | None = None
        try:
            other = _holder(descriptor, keep)
            if other is None and keep:
                _held[path] = descriptor
        finally:
            if path not in _held:
                os.close(descriptor)
    return other


def check_writer(uri: str, must: str) -> None:
    """Take the right to write the SQLite file that a URI names; others are no file.

    Args:
        uri: of a database.
        must: how the error begins: what has to be otherwise.

    Raises:
        ValueError: where another machine writes it now.
    """
    if not uri.startswith(SQLITE):
        return
    folder = Path(uri.removeprefix(SQLITE)).parent
    if (other := other_writer(folder)) is not None:
        raise ValueError(
            f"{must} for all machines that write the database in {folder} at the same time, "
            f"which {other} does now, got none"
        )


@contextmanager
def writer_for_now(folder: Path) -> Iterator[str | None]:
    """As `other_writer`, but the right ends with the block, unless this process had it before.

    Who looks after the databases of others must not keep them from these. Raises OSError.
    """
    path = folder.absolute() / LOCK
    with _guard:
        has = path in _held
    if has:
        yield other_writer(folder)
        return
    # Of its own, so that what the process takes meanwhile stays its.
    descriptor = _opened(path, True)
    try:
        yield _holder(descriptor, True)
    finally:
        os.close(descriptor)


def _opened(path: Path, make: bool) -> int:
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o666)


def _holder(descriptor: int, keep: bool) -> str | None:
    """Take the lock, or say which host has it."""
    host = "another machine"
    for _ in range(TRIES):
        if _locked(descriptor, fcntl.LOCK_EX):
            if not keep:
                return None
            said = {"machine": this_machine(), "host": socket.gethostname()}
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(said).encode(), 0)
            os.fsync(descriptor)
        # Not in one act with the above: another machine may have come between.
        if _locked(descriptor, fcntl.LOCK_SH):
            try:
                found = json.loads(os.pread(descriptor, 4096, 0))
                machine, host = str(found["machine"]), str(found["host"])
            except (ValueError, TypeError, KeyError):
                machine = ""
            if machine == this_machine():
                return None
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        time.sleep(PAUSE_SECONDS)
    return host


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
