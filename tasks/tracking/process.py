"""What one process records: the thread that writes it, the one that copies it, and their end."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from tasks.host.redaction import is_own, is_remote, redacted
from tasks.host.terminal import progress_display
from tasks.tracking.background import Background
from tasks.tracking.mirror import Mirror
from tasks.tracking.recorder import PATIENCE, Recorder
from tasks.tracking.sync import EarlierRuns

EXIT_SECONDS = 3.0
# What is new is copied together with more of it.
COPY_SECONDS = 2.0

logger = logging.getLogger(__name__)


class Recording:
    """What one process records in one home, and copies to one server."""

    def __init__(self, home: Path, uri: str) -> None:
        self.recorder = Recorder(home, say)
        self.mirror = None if is_own(home, uri) else Mirror(home, uri)
        kept = "what is kept meanwhile is sent later, at the latest by `rosita sync`"
        # The tables of a local one may have to be made first.
        patience = 1 if is_remote(uri) else PATIENCE
        server = f"MLflow at {redacted(uri)}"
        self.copying = Background(server, kept, COPY_SECONDS, patience, say)
        if (mirror := self.mirror) is not None:
            mirror.progress = self.copying.progress
            self.copying.serve, self.copying.allowance = mirror.send, lambda: mirror.allowance
            self.recorder.wrote = self.copying.touch
        self.parents: dict[str, str | None] = {}
        self.ended: set[str] = set()
        self.registered: dict[str, dict[str, str]] = {}
        self._earlier = EarlierRuns(home, uri, say)
        self._begun = threading.Lock()

    def start(
        self, run: str, parent: str | None, experiment: str, name: str, tags: dict[str, str]
    ) -> None:
        """Open a run."""
        self.parents[run] = parent
        self.recorder.start(run, experiment, name, int(time.time() * 1000), tags)
        # Once a process, when its first run begins.
        if self._begun.acquire(blocking=False):
            self._earlier.start()
            atexit.register(self._leave)

    def flush(self, seconds: float) -> bool:
        """See Tracking."""
        return self.recorder.thread.flush(seconds) and self.copying.flush(seconds)

    def _leave(self) -> None:
        self.flush(EXIT_SECONDS)
        self._earlier.stop(EXIT_SECONDS)
        self.recorder.leave()


@lru_cache(maxsize=32)
def recording_of(process: int, home: Path, uri: str) -> Recording:
    """The one of a process; a forked one has this table but not the threads."""
    return Recording(home, uri)


def say(text: str) -> None:
    """Tell the user, and the log."""
    # A terminal that was closed must not end the recording.
    with suppress(Exception):
        logger.warning("%s", text)
        # Prefect keeps warnings of other libraries from the terminal.
        if logging.getLogger().handlers:
            progress_display().line(f"rosita: {text}")
