"""One stage key, one process at a time.

Prefect's own file locks are files that a killed process leaves behind for ever, and everyone after
it waits. These are locks of the operating system (flock), which end with the process that holds
them, however it ends. They work between processes of a machine, and between machines where the
shared filesystem passes flock on (NFS 4 does).
"""

import asyncio
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefect.locking.protocol import LockManager

from tasks.host.signals import stop_if_requested

POLL_SECONDS = 0.1


@dataclass
class _Held:
    holder: str
    descriptor: int


# Open locks belong to the process, not to a manager: Prefect copies and pickles managers freely.
_held: dict[Path, _Held] = {}
_guard = threading.Lock()


@dataclass(frozen=True)
class StageLocks(LockManager):
    """Locks by stage key, as empty files below `folder`, for Prefect's transactions."""

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
        deadline = None if acquire_timeout is None else time.monotonic() + acquire_timeout
        while not self._try(key, holder):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            stop_if_requested()
            time.sleep(POLL_SECONDS)
        return True

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
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.is_locked(key):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            stop_if_requested()
            time.sleep(POLL_SECONDS)
        return True

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
            return True

    def _path(self, key: str) -> Path:
        return Path(self.folder).absolute() / f"{key}.lock"


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
