"""A thread that serves runs, so that nothing waits for a store that is slow, locked or away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tasks.tracking.errors import Unavailable, is_refusal

FIRST_BACKOFF, LAST_BACKOFF = 1.0, 30.0
PARENT_SECONDS = 0.5
# How long to wait for a store that is known not to answer.
DOWN_SECONDS = 1.0
# A request that takes longer is not waited for by a stage.
SLOW_SECONDS = 2.0
# A run that failed so many times in a row is left to a later try.
FAILING = 3


class NotYet(RuntimeError):
    """The run waits for another one."""


class Background:
    """Serves the runs of which there is something new, in their order, each until it succeeds."""

    def __init__(
        self, store: str, down: str, gather: float, patience: float, say: Callable[[str], None]
    ) -> None:
        """A thread that begins with the first `touch`.

        Args:
            store: what is served, for messages, without secrets.
            down: what that means for the user where it does not answer.
            gather: seconds that something new waits for more of it, unless somebody waits for it.
            patience: how many times as long as others it is waited for.
            say: shows a line to the user.
        """
        self.serve: Callable[[str], None] = lambda run: None
        """Does what is to be done for a run; may raise anything."""
        self.allowance: Callable[[], float] = lambda: 0.0
        """Seconds that what is being done now may take."""
        self._store, self._down_means, self._say = store, down, say
        self._gather, self._patience = gather, patience
        self._waiting: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._changed = threading.Condition()
        self._due = float("inf")
        self._awaited = 0
        self._down = self._silent = False
        self._backoff = FIRST_BACKOFF
        self._progress_at = time.monotonic()
        self._busy_since: float | None = None
        self._thread: threading.Thread | None = None

    def touch(self, run: str) -> None:
        """Serve a run soon."""
        with self._changed:
            self._waiting[run] = self._waiting.get(run, 0) + 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
                self._thread.start()
            # While the store is down, the next try is due when it is due.
            due = time.monotonic() + (0.0 if self._awaited else self._gather)
            if not self._down and due < self._due:
                self._due = due
                self._changed.notify_all()

    def hurry(self) -> None:
        """Serve what there is now."""
        with self._changed:
            self._due = time.monotonic()
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Serve all of them now; True when that was done.

        It ends after so many seconds without progress, and after about one second where the store
        is known not to answer.
        """
        return self.wait(lambda: not self._waiting, seconds, impatient=False)

    def wait(self, met: Callable[[], bool], seconds: float, impatient: bool = True) -> bool:
        """Wait until something is so; who is impatient does not wait for a slow store either."""
        began = time.monotonic()
        with self._changed:
            if met() or seconds <= 0:
                return met()
            self._awaited += 1
            try:
                self.hurry()
                return self._wait(met, began, seconds, impatient)
            finally:
                self._awaited -= 1

    def _wait(self, met: Callable[[], bool], began: float, seconds: float, impatient: bool) -> bool:
        while not met():
            now = time.monotonic()
            left = max(began, self._progress_at) + self._patience * seconds - now
            if self.failing:
                left = began + DOWN_SECONDS - now
            elif impatient and self._busy_since is not None:
                left = min(began + seconds, max(self._busy_since, began) + SLOW_SECONDS) - now
            else:
                left += self.allowance()
            if left <= 0:
                # The next one need not find this out again.
                self._silent = self._silent or not impatient
                return False
            self._changed.wait(min(left, 0.25))
        return True

    def progress(self) -> None:
        """To be told of whatever the store has taken."""
        with self._changed:
            self._progress_at = self._busy_since = time.monotonic()
            back, self._down = self._down, False
            self._silent, self._backoff = False, FIRST_BACKOFF
            self._changed.notify_all()
        if back:
            self._say(f"{self._store} answers again; what was kept is being sent")

    @property
    def failing(self) -> bool:
        """Whether the store does not answer, or has failed again and again for all that waits."""
        waiting = list(self._waiting)
        failures = [self._failures.get(run, 0) >= FAILING for run in waiting]
        return self._down or self._silent or (bool(failures) and all(failures))

    def _work(self) -> None:
        while True:
            with self._changed:
                while (left := self._due - time.monotonic()) > 0:
                    self._changed.wait(None if left == float("inf") else left)
                self._due, self._busy_since = float("inf"), time.monotonic()
                waiting = dict(self._waiting)
            again = float("inf")
            for run, version in waiting.items():
                again = min(again, self._serve(run, version))
                if self._down:
                    break
            with self._changed:
                self._busy_since = None
                due = time.monotonic() + again
                self._due = due if self._down else min(self._due, due)
                self._changed.notify_all()

    def _serve(self, run: str, version: int) -> float:
        """Serve a run; the seconds after which it has to be tried again."""
        try:
            self.serve(run)
        except NotYet:
            return PARENT_SECONDS
        except Exception as error:
            # Whatever it is, the thread must live on.
            return self._failed(run, error)
        with self._changed:
            self._failures.pop(run, None)
            # Unless there is something new again.
            if self._waiting[run] == version:
                del self._waiting[run]
        self.progress()
        return float("inf")

    def _failed(self, run: str, error: Exception) -> float:
        wrong = Unavailable(error)
        if is_refusal(error) or wrong.answered:
            count = self._failures.get(run, 0)
            self._failures[run] = count + 1
            if count == 0:
                self._say(f"{self._store} failed to record a run and is asked again: {wrong}")
            return float(min(FIRST_BACKOFF * 2.0 ** min(count, 10), LAST_BACKOFF))
        with self._changed:
            first, self._down = not self._down, True
            again, self._backoff = self._backoff, min(2 * self._backoff, LAST_BACKOFF)
            self._changed.notify_all()
        if first:
            means = f"the run goes on, and {self._down_means}"
            self._say(f"{self._store} does not answer ({wrong}); {means}")
        return again
