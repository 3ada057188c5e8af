"""The thread that sends the journals of this process, so that nothing else waits for MLflow."""

import atexit
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tasks.host.redaction import is_remote, redacted
from tasks.tracking.outbox.box import Outbox
from tasks.tracking.outbox.delivery import Delivery, NotYet
from tasks.tracking.outbox.errors import Unavailable, brief
from tasks.tracking.outbox.journal import Journal, Operation, State
from tasks.tracking.outbox.open_runs import OpenRuns
from tasks.tracking.outbox.sync import EarlierRuns

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
# A run that MLflow failed to record so many times in a row is left to a later try.
FAILING = 3

logger = logging.getLogger(__name__)


class Sender:
    """Sends what is appended to the journals of one home, in order, in the background."""

    def __init__(self, home: Path, uri: str, tell: Callable[[str], None]) -> None:
        """`tell` shows a line to the user: MLflow stopped answering, or answers again."""
        self.uri = uri
        self.shown_uri = redacted(uri)
        self.outbox = Outbox(home)
        self._delivery = Delivery(home, uri, self._moved)
        self._earlier_runs = EarlierRuns(home, uri, self._say)
        self._tell = tell
        self.runs = OpenRuns(self.outbox, self._say)
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
        self.runs.open(header)
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
                self._thread.start()
                atexit.register(self._leave)
                # Once a process, when its first run begins.
                self._earlier_runs.start()
        self._mark(urgent=True)

    def append(self, handle: str, operation: Operation, urgent: bool) -> None:
        """Add an operation to a journal. Raises ValueError for one that this process has not."""
        self.runs.append(handle, operation)
        self._mark(urgent)

    def run_id(self, handle: str, wait: float) -> str | None:
        """MLflow's id of a run of this process; None when it is not known within `wait` seconds.

        It is not waited for while MLflow is known not to answer.
        """
        self._wait(lambda: self.state(handle).run_id is not None, wait, impatient=True)
        return self.state(handle).run_id

    def state(self, handle: str) -> State:
        """How far a run was sent, by whichever process does it; empty for an unknown run."""
        return self.runs.state(handle) or self.outbox.state(handle) or State()

    def flush(self, seconds: float) -> bool:
        """Send everything now; True when that was done.

        It ends after so many seconds in which MLflow took nothing, and after about one second when
        it is known not to answer. A model that is being sent gets the time that its size needs.
        """
        return self._wait(lambda: not self._unsent(), seconds, impatient=False)

    def _leave(self) -> None:
        self._earlier_runs.stop()
        self.flush(EXIT_SECONDS)
        self._earlier_runs.join(EXIT_SECONDS)

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
                if self._down or self._silent or self._failing():
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
        folders = [journal.held("") for journal in self.runs.journals()]
        files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files) / BYTES_PER_SECOND

    def _unsent(self) -> bool:
        return any(journal.waiting for journal in self.runs.journals())

    def _failing(self) -> bool:
        """Whether MLflow answers, but has failed again and again for all that waits."""
        waiting = [one.handle for one in self.runs.journals() if one.waiting]
        return bool(waiting) and all(self._failures.get(one, 0) >= FAILING for one in waiting)

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
            self._say(f"MLflow at {self.shown_uri} answers again; what was kept is being sent")

    def _work(self) -> None:
        while True:
            try:
                again = self._send(self._due_journals())
            except Exception as error:
                # Whatever it is, the thread must live on.
                again = self._broken(error)
            with self._changed:
                self._busy_since = None
                self._due = min(self._due, time.monotonic() + again)
                if self._down:
                    self._due = time.monotonic() + again
                self._changed.notify_all()

    def _due_journals(self) -> list[Journal]:
        with self._changed:
            while (left := self._due - time.monotonic()) > 0:
                self._changed.wait(None if left == float("inf") else left)
            self._due = float("inf")
            self._busy_since = time.monotonic()
            return self.runs.journals()

    def _send(self, journals: list[Journal]) -> float:
        """Send what waits; returns the seconds until it has to be tried again."""
        again = float("inf")
        for journal in journals:
            try:
                journal.catch_up()
            except OSError:
                again = LAST_BACKOFF  # The user knows; what is written can be sent.
            try:
                self._delivery.send(journal)
                self._failures.pop(journal.handle, None)
            except NotYet:
                again = min(again, PARENT_SECONDS)
                if (count := self._failures.get(journal.header["parent"])) is not None:
                    self._failures[journal.handle] = count
            except Unavailable as error:
                if not error.answered:
                    return self._unavailable(error)
                again = min(again, self._failed(journal, error))
        self._let_go(journals)
        return again

    def _let_go(self, journals: list[Journal]) -> None:
        done = [journal for journal in journals if journal.state.done and not journal.waiting]
        if done:
            self.runs.let_go(done)
            self.outbox.tidy()

    def _broken(self, error: Exception) -> float:
        """The files of the outbox cannot be read or written, most likely."""
        with self._changed:
            first, self._silent = not self._silent, True
            again = self._backoff
            self._backoff = min(2 * self._backoff, LAST_BACKOFF)
            self._changed.notify_all()
        if first:
            logger.warning(redacted("".join(traceback.format_exception(error))))
            self._say(
                f"the outbox in {self.outbox.folder} cannot be read or written ({brief(error)}); "
                "the run goes on, and MLflow is told later, at the latest by `rosita sync`"
            )
        return again

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
                f"MLflow at {self.shown_uri} does not answer ({brief(error)}); the run goes on, "
                "and what is kept meanwhile is sent later, at the latest by `rosita sync`"
            )
        return again

    def _say(self, text: str) -> None:
        # A terminal that was closed must not end the recording.
        with suppress(Exception):
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
