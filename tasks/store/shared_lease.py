"""One stage key, one machine at a time: leases in the shared store.

A lease is a file `locks/<stage key>/<number>` that was created where there was none, which an
object store and a shared filesystem decide for all machines alike. Its holder writes to it every
few seconds. Whoever waits measures by its own clock how long it has not changed; one that stayed
the same for `seconds` belongs to a process that is gone, and the next number is free to be created.

The file of the highest number is never removed, so a late creator of a lower one always finds out.
The result of a stage does not depend on its lease: two holders would compute the same twice.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from typing import Annotated

from pydantic import BaseModel, Field

from tasks.store.json_files import read_json
from tasks.store.shared_files import SharedFiles, SharedStoreError

LOCKS = "locks"
SECONDS_VARIABLE = "ROSITA_STORE_LEASE_SECONDS"
SECONDS = 60.0
LEAST_SECONDS, MOST_SECONDS = 2.0, 3600.0
BEATS = 6
"""Writes within the time after which a lease counts as abandoned."""

logger = logging.getLogger(__name__)


def lease_seconds() -> float:
    """How long a silent holder keeps its lease. Raises ValueError naming variable and bound."""
    text = os.environ.get(SECONDS_VARIABLE) or str(SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise ValueError(
            f"{SECONDS_VARIABLE} must be in [{LEAST_SECONDS:g}, {MOST_SECONDS:g}], got {text}"
        )
    return seconds


class Lease:
    """The lease of one stage key, for one holder."""

    def __init__(self, files: SharedFiles, key: str, seconds: float) -> None:
        self._files = files
        self._folder = f"{LOCKS}/{key}"
        self._seconds = seconds
        self._token = uuid.uuid4().hex
        self._number = 0
        self._seen: tuple[int, bytes | None, float] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.holder = ""
        """The machine and process that had it when it was last asked for."""
        self.took_over = ""
        """The machine and process whose abandoned lease this one follows."""
        self.lost = False
        """Whether another holder took it for abandoned."""

    def try_take(self) -> bool:
        """Take it and keep it, unless another holder is alive. Raises SharedStoreError."""
        newest = self._newest()
        abandoned = ""
        if newest:
            content = self._files.read(self._path(newest))
            about = _about(content)
            if about.state == "held" and about.holder == self._token:
                # The store failed after it was taken.
                self._hold(newest, "")
                return True
            if about.state != "released":
                self.holder = about.host if about.pid is None else f"{about.host} ({about.pid})"
                if not self._silent(newest, content, about.seconds or self._seconds):
                    return False
                abandoned = self.holder
        number = newest + 1
        if not self._files.create(self._path(number), self._content("held")):
            return False
        if self._newest() > number:
            # What was looked at first was out of date: others have come and gone since.
            self._files.remove(self._path(number))
            return False
        self._hold(number, abandoned)
        return True

    def _hold(self, number: int, abandoned: str) -> None:
        """Keep what is ours from now on."""
        self._number, self.took_over = number, abandoned
        for older in self._numbers():
            if older < number:
                self._files.remove(self._path(older))
        self._stop.clear()
        self._thread = threading.Thread(target=self._keep, name="shared-lease", daemon=True)
        self._thread.start()

    def forget_silence(self) -> None:
        """While the store was away nobody could renew a lease: a holder gets its time anew."""
        self._seen = None

    def release(self) -> None:
        """Give it up, if it is held; one that cannot be told of ends by itself."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = None
        try:
            self._files.write(self._path(self._number), self._content("released"))
        except SharedStoreError as error:
            logger.warning("a lease could not be given up and ends by itself: %s", error)

    def _keep(self) -> None:
        away = False
        while not self._stop.wait(self._seconds / BEATS):
            try:
                if self._newest() > self._number:
                    self.lost = True
                    logger.warning("the lease %s was taken over", self._path(self._number))
                    return
                self._files.write(self._path(self._number), self._content("held"))
            except SharedStoreError as error:
                # Once an outage: each beat says the same.
                if not away:
                    logger.warning("a lease could not be renewed, tried again: %s", error)
                away = True
                continue
            if away:
                logger.warning("the lease %s is renewed again", self._path(self._number))
            away = False

    def _silent(self, number: int, content: bytes | None, seconds: float) -> bool:
        """Whether a lease has not changed for as long as its holder said it would take."""
        now = time.monotonic()
        if self._seen is None or self._seen[:2] != (number, content):
            self._seen = (number, content, now)
        return now - self._seen[2] >= seconds

    def _newest(self) -> int:
        return max(self._numbers(), default=0)

    def _numbers(self) -> list[int]:
        names = self._files.names(self._folder)
        return [int(name) for name in names if re.fullmatch("[0-9]{9}", name)]

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:09d}"

    def _content(self, state: str) -> bytes:
        about = {
            "state": state,
            "holder": self._token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "seconds": self._seconds,
            "beat": uuid.uuid4().hex,
        }
        return json.dumps(about).encode()


class _About(BaseModel):
    """What a lease says of its holder, as far as it can be believed."""

    state: str = "held"
    holder: str | None = None
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,253}$")] = "another machine"
    pid: int | None = None
    seconds: Annotated[float, Field(ge=0, le=MOST_SECONDS)] | None = None


def _about(content: bytes | None) -> _About:
    """What a lease says; nothing where it is gone, being written, or of no use."""
    try:
        return _About.model_validate(read_json(content or b""))
    except ValueError:
        return _About()
