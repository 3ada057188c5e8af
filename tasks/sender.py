"""The thread that sends the journals of this process, so that nothing else waits for MLflow."""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tasks.delivery import Delivery, NotYet, is_remote
from tasks.mlflow_errors import Unavailable, brief
from tasks.outbox import Journal, Operation, Outbox, State

# Metrics wait so long for more of them: one request a step is slow.
GATHER_SECONDS = 2.0
FIRST_BACKOFF, LAST_BACKOFF = 1.0, 30.0
PARENT_SECONDS = 0.5
# How long to wait for MLflow when it is known not to answer.
DOWN_SECONDS = 1.0
# A local store gets so many times as long: its tables may have to be made first.
LOCAL_PATIENCE = 8
# A request that takes longer is not waited for by a stage.
SLOW_SECONDS = 2.0
# What a slow line carries; a model takes its time to send.
BYTES_PER_SECOND = 4e6
EXIT_SECONDS = 3.0

logger = logging.getLogger(__name__)


class Sender:
    """Sends what is appended to the journals of one home, in order, in the background."""

    def __init__(self, home: Path, uri: str, tell: Callable[[str], None]) -> None:
        """`tell` shows a line to the user: MLflow stopped answering, or answers again."""
        self.uri = uri
        self.outbox = Outbox(home)
        self._delivery = Delivery(home, uri, self._moved)
        self._tell = tell
        self._journals: dict[str, Journal] = {}
        self._closed: dict[str, State] = {}
        self._failures: dict[str, int] = {}
        self._changed = threading.Condition()
        self._due = float("inf")
        self._down = False
        self._backoff = FIRST_BACKOFF
        self._silent = False
        self._progress_at = time.monotonic()
        self._busy_since: float | None = None
        self._thread: threading.Thread | None = None

    def start(self, header: Operation) -> None:
        """Open the journal of a new run; `header` creates the run."""
        journal = self.outbox.start(header)
        with self._changed:
            self._journals[journal.handle] = journal
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
                self._thread.start()
                atexit.register(self.flush, EXIT_SECONDS)
        self._mark(urgent=True)

    def append(self, handle: str, operation: Operation, urgent: bool) -> None:
        """Add an operation to a journal. Raises ValueError for one that this process has not."""
        self.journal(handle).append(operation)
        self._mark(urgent)

    def journal(self, handle: str) -> Journal:
        """An open journal of this process. Raises ValueError when there is none."""
        with self._changed:
            if handle not in self._journals:
                raise ValueError(f"run must be open in this process, got {handle}")
            return self._journals[handle]

    def has(self, handle: str) -> bool:
        """Whether this process has the journal."""
        with self._changed:
            return handle in self._journals

    def run_id(self, handle: str, wait: float) -> str | None:
        """MLflow's id of a run of this process; None when it is not known within `wait` seconds.

        It is not waited for while MLflow is known not to answer.
        """
        self._wait(lambda: self.state(handle).run_id is not None, wait, impatient=True)
        return self.state(handle).run_id

    def state(self, handle: str) -> State:
        """How far a run was sent, by whichever process does it; empty for an unknown run."""
        with self._changed:
            if handle in self._journals:
                return self._journals[handle].state
            if handle in self._closed:
                return self._closed[handle]
        return self.outbox.state(handle) or State()

    def flush(self, seconds: float) -> bool:
        """Send everything now; True when that was done.

        It ends after so many seconds in which MLflow took nothing, and after about one second when
        it is known not to answer. A model that is being sent gets the time that its size needs.
        """
        return self._wait(lambda: not self._unsent(), seconds, impatient=False)

    def _wait(self, met: Callable[[], bool], seconds: float, impatient: bool) -> bool:
        local = not is_remote(self.uri)
        began = time.monotonic()
        with self._changed:
            if met() or seconds <= 0:
                return met()
            self._due = began
            self._changed.notify_all()
            while not met():
                now = time.monotonic()
                if self._down or self._silent or self._stuck():
                    left = began + DOWN_SECONDS - now
                elif local:
                    left = self._since(began) + LOCAL_PATIENCE * seconds - now
                elif impatient:
                    busy = self._busy_since if self._busy_since is not None else now
                    left = min(began + seconds, max(busy, began) + SLOW_SECONDS) - now
                else:
                    left = self._since(began) + seconds + self._allowance() - now
                if left <= 0:
                    # The next one need not find this out again.
                    self._silent = self._silent or not impatient
                    return False
                self._changed.wait(min(left, 0.25))
        return True

    def _since(self, began: float) -> float:
        return max(began, self._progress_at)

    def _allowance(self) -> float:
        folders = [journal.held("") for journal in self._journals.values()]
        files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files) / BYTES_PER_SECOND

    def _unsent(self) -> bool:
        return any(one.waiting or one.state.done for one in self._journals.values())

    def _stuck(self) -> bool:
        """Whether MLflow failed at everything that waits."""
        left = [one.handle for one in self._journals.values() if one.waiting]
        return bool(left) and set(left) <= set(self._failures)

    def _mark(self, urgent: bool) -> None:
        with self._changed:
            # While MLflow is down, the next try is due when it is due.
            if not self._down:
                due = time.monotonic() + (0.0 if urgent else GATHER_SECONDS)
                if due < self._due:
                    self._due = due
                    self._changed.notify_all()

    def _moved(self) -> None:
        """MLflow took something."""
        with self._changed:
            self._progress_at = self._busy_since = time.monotonic()
            self._silent = False
            back, self._down = self._down, False
            self._backoff = FIRST_BACKOFF
            self._changed.notify_all()
        if back:
            self._say(f"MLflow at {self.uri} answers again; what was kept is being sent")

    def _work(self) -> None:
        while True:
            with self._changed:
                while (left := self._due - time.monotonic()) > 0:
                    self._changed.wait(None if left == float("inf") else left)
                self._due = float("inf")
                journals = list(self._journals.values())
                self._busy_since = time.monotonic()
            again = self._send(journals)
            with self._changed:
                self._busy_since = None
                self._due = min(self._due, time.monotonic() + again)
                if self._down:
                    self._due = time.monotonic() + again
                self._changed.notify_all()

    def _send(self, journals: list[Journal]) -> float:
        """Send what waits; returns the seconds until it has to be tried again."""
        again = float("inf")
        for journal in journals:
            try:
                self._delivery.send(journal)
                self._failures.pop(journal.handle, None)
            except NotYet:
                again = min(again, PARENT_SECONDS)
                if journal.header["parent"] in self._failures:
                    self._failures.setdefault(journal.handle, 1)
            except Unavailable as error:
                if not error.answered:
                    return self._unavailable(error)
                again = min(again, self._failed(journal, error))
            except Exception as error:
                # The disk of the home, most likely. The thread must live on.
                logger.exception("The outbox cannot be read or written")
                return self._unavailable(error)
        self._close([one for one in journals if one.state.done and not one.waiting])
        return again

    def _close(self, journals: list[Journal]) -> None:
        """Let go of journals that were sent; only then is a flush complete."""
        for journal in journals:
            journal.release()
        if journals:
            try:
                self.outbox.tidy()
            except OSError as error:
                logger.warning("The outbox keeps journals that were sent: %s", error)
        with self._changed:
            for journal in journals:
                self._closed[journal.handle] = self._journals.pop(journal.handle).state

    def _failed(self, journal: Journal, error: Exception) -> float:
        """MLflow answers, but cannot carry out what this journal asks for; the others go on."""
        count = self._failures.get(journal.handle, 0)
        self._failures[journal.handle] = count + 1
        if count == 0:
            name = journal.header.get("name")
            self._say(f"MLflow failed to record {name} and is asked again: {brief(error)}")
        return min(FIRST_BACKOFF * 2.0 ** min(count, 10), LAST_BACKOFF)

    def _unavailable(self, error: Exception) -> float:
        with self._changed:
            first, self._down = not self._down, True
            again = self._backoff
            self._backoff = min(2 * self._backoff, LAST_BACKOFF)
            self._changed.notify_all()
        if first:
            self._say(
                f"MLflow at {self.uri} does not answer ({brief(error)}); the run goes on, "
                "and what is kept meanwhile is sent later, at the latest by `rosita sync`"
            )
        return again

    def _say(self, text: str) -> None:
        logger.warning(text)
        self._tell(text)


_senders: dict[tuple[int, Path, str], Sender] = {}
_guard = threading.Lock()


def sender_of(home: Path, uri: str, tell: Callable[[str], None]) -> Sender:
    """The one sender of this process for a home and a store."""
    with _guard:
        # A forked process has the table but not the thread.
        key = (os.getpid(), home, uri)
        if key not in _senders:
            _senders[key] = Sender(home, uri, tell)
        return _senders[key]
