"""One stage key, one process at a time.

Prefect's own file locks are files that a killed process leaves behind for ever, and everyone after
it waits. These are locks of the operating system (flock), which end with the process that holds
them, however it ends. They work between processes of a machine, and between machines where the
shared filesystem passes flock on (NFS 4 does).
"""

import asyncio
import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prefect.locking.protocol import LockManager

from tasks.cache.documents import LockHolder
from tasks.host.liveness import is_stopped
from tasks.host.logs import warn
from tasks.host.signals import stop_if_requested
from tasks.host.wording import when
from tasks.store.json_files import read_file, read_json

POLL_SECONDS = 0.1
SAID_AFTER_SECONDS = 5.0
"""How long a lock is waited for before it is said who has it: most are free again by then."""


@dataclass
class _Held:
    holder: str
    descriptor: int


# Open locks belong to the process, not to a manager: Prefect copies and pickles managers freely.
_held: dict[Path, _Held] = {}
_guard = threading.Lock()


@dataclass(frozen=True)
class StageLocks(LockManager):
    """Locks by stage key, for Prefect's transactions: files below `folder` that name the holder."""

    folder: Path

    def acquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Take the lock, waiting at most `acquire_timeout` seconds (None: without end).

        Taking a lock that the holder has already is a success. `hold_timeout` must be None: a lock
        ends with its process, and a long stage must not lose it. Raises what a signal means where
        one comes while it waits.
        """
        if hold_timeout is not None:
            raise ValueError(f"hold_timeout must be None, got {hold_timeout}")
        return self._wait(key, lambda: self._try(key, holder), acquire_timeout)

    async def aacquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """`acquire_lock` without blocking the event loop."""
        return await asyncio.to_thread(
            self.acquire_lock, key, holder, acquire_timeout, hold_timeout
        )

    def release_lock(self, key: str, holder: str) -> None:
        """Give the lock up. Raises ValueError when the holder does not have it."""
        path = self._path(key)
        with _guard:
            held = _held.get(path)
            if held is None or held.holder != holder:
                raise ValueError(f"lock {key} must be held by {holder} to be released")
            del _held[path]
            # The file stays: removing it would let two processes lock two files of one name.
            os.close(held.descriptor)

    def is_locked(self, key: str) -> bool:
        """Whether anyone, in this process or another, holds the lock."""
        path = self._path(key)
        with _guard:
            if path in _held:
                return True
            if not path.exists():
                return False
            descriptor = os.open(path, os.O_RDWR)
            try:
                return not _flock(descriptor)
            finally:
                os.close(descriptor)

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether this holder has the lock."""
        with _guard:
            held = _held.get(self._path(key))
            return held is not None and held.holder == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until the lock is free, at most `timeout` seconds; False when it is still held."""
        return self._wait(key, lambda: not self.is_locked(key), timeout)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """`wait_for_lock` without blocking the event loop."""
        return await asyncio.to_thread(self.wait_for_lock, key, timeout)

    @contextmanager
    def held(self, key: str, holder: str) -> Iterator[None]:
        """The lock for the length of a block."""
        self.acquire_lock(key, holder)
        try:
            yield
        finally:
            self.release_lock(key, holder)

    def _wait(self, key: str, is_over: Callable[[], bool], timeout: float | None) -> bool:
        began, told = time.monotonic(), False
        while not is_over():
            waited = time.monotonic() - began
            if timeout is not None and waited >= timeout:
                return False
            if waited >= SAID_AFTER_SECONDS and not told:
                told = True
                self._say_who_has_it(key)
            stop_if_requested()
            time.sleep(POLL_SECONDS)
        return True

    def _say_who_has_it(self, key: str) -> None:
        path = self._path(key)
        if path in _held:
            # Another task of this process, which its own lines tell of.
            return
        try:
            held = LockHolder.model_validate(read_json(read_file(path)))
        except (OSError, ValueError):
            warn(f"waiting for the lock {path}, which some process has; `fuser {path}` names it")
            return
        pid, since = held.pid, when(held.since)
        what = f"waiting for the lock {path}, which process {pid} on {held.host} has since {since}"
        if held.host == socket.gethostname() and is_stopped(pid):
            warn(
                f"{what} and is stopped: `kill -CONT {pid}` lets it go on, `kill -KILL {pid}` "
                "ends it, and its stage goes on here from what it saved"
            )
        else:
            warn(f"{what}; it is taken over once it ends (`kill {pid}` there ends it)")

    def _try(self, key: str, holder: str) -> bool:
        path = self._path(key)
        with _guard:
            if path in _held:
                return _held[path].holder == holder
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            if not _flock(descriptor):
                os.close(descriptor)
                return False
            _held[path] = _Held(holder, descriptor)
            _sign(descriptor)
            return True

    def _path(self, key: str) -> Path:
        return Path(self.folder).absolute() / f"{key}.lock"


def _sign(descriptor: int) -> None:
    """Say in the file of a lock who has it, for those who wait; the lock is as good without."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    holder = LockHolder(pid=os.getpid(), host=socket.gethostname(), since=now)
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.model_dump_json().encode(), 0)


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
