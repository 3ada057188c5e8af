"""Sending, at the start of a run, what processes of the same home left behind when they ended."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from tasks.tracking.outbox.box import waiting
from tasks.tracking.outbox.errors import brief
from tasks.tracking.outbox.sync import sync

# MLflow may be away; what waits has waited before.
RETRY_SECONDS = 30.0

logger = logging.getLogger(__name__)


class Takeover:
    """A thread beside the sender of a run, so that a new run never waits for old ones.

    The runs of killed processes are closed as KILLED. It may be stopped at any moment; the next
    run, or `rosita sync`, goes on.
    """

    def __init__(self, home: Path, uri: str, say: Callable[[str], None]) -> None:
        """`say` shows a line to the user; only runs that are meant for `uri` are sent."""
        self._home = home
        self._uri = uri
        self._say = say
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mlflow-old-runs", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Take on nothing more."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        """Wait for what is being sent, at most so long."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _work(self) -> None:
        try:
            if not waiting(self._home):
                return
            while not self._stop.is_set():
                report = sync(self._home, only=self._uri, stop=self._stop.is_set)
                sent = sum(run.problem is None for run in report.runs)
                if sent:
                    runs = "1 run" if sent == 1 else f"{sent} runs"
                    self._say(f"{runs} that ended before MLflow had all of them are recorded now")
                if sent == len(report.runs):
                    return
                self._stop.wait(RETRY_SECONDS)
        except Exception as error:
            # The new run is what matters; `rosita sync` shows what is wrong with the old ones.
            logger.warning("runs that ended before could not be sent: %s", brief(error))
