"""What Prefect's page of a running stage says: a bar, and a line of its log now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import cast
from uuid import UUID

from rosita_core.training.progress import Progress
from tasks.host.logs import Logger, run_logger

FIRST_SECONDS = 10.0
"""A stage that is done before this needs no bar."""
EVERY_SECONDS = 30.0


class PrefectPage:
    """The page of one stage's task run. Nothing waits for the server: the newest news is sent."""

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin; outside a flow run, or without a server that takes it, the page stays empty.

        Args:
            title: of the stage.
            clock: seconds.
        """
        self._title = title
        self._clock = clock
        self._due = clock() + FIRST_SECONDS
        self._logger: Logger = run_logger()
        self._bar: UUID | None = None
        self._news: tuple[float, str] | None = None
        self._sending = threading.Lock()

    def resumed(self, unit: int) -> None:
        """Say where it goes on."""
        self._logger.info("%s: goes on from step %s", self._title, f"{unit:,}")

    def update(self, event: Progress, said: str) -> None:
        """Show how far it is, where the last time is long enough ago.

        Args:
            event: of the kernel.
            said: the same in words.
        """
        if self._clock() < self._due:
            return
        self._due = self._clock() + EVERY_SECONDS
        self._logger.info("%s", said)
        self._send(100 * event.step / max(1, event.total_steps), said)

    def end(self, status: str) -> None:
        """Leave the bar, if there is one, with how the stage ended."""
        if self._news is not None:
            self._send(
                100.0 if status == "completed" else self._news[0], f"{self._title}: {status}"
            )

    def _send(self, percent: float, said: str) -> None:
        self._news = (percent, said)
        # The context has the task run that the bar belongs to.
        run = copy_context().run
        threading.Thread(target=lambda: run(self._show), daemon=True).start()

    def _show(self) -> None:
        # Not above: what only looks at the home does without Prefect.
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        with self._sending:
            assert self._news is not None
            percent, said = self._news
            # The stage goes on without a bar. Prefect's client has many errors of its own.
            try:
                if self._bar is None:
                    # No loop runs in this thread, so it is done when it returns.
                    self._bar = cast(UUID, create_progress_artifact(percent, description=said))
                else:
                    update_progress_artifact(self._bar, percent, description=said)
            except Exception as error:
                self._logger.warning("Prefect's server did not take the progress: %s", error)
