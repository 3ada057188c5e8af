"""What Prefect's background services say when its server does not take what they send.

Each event and each message that is lost would be printed, whole, on the terminal; the user needs to
know once.
"""

from __future__ import annotations

import logging

from tasks.host.terminal import progress_display

SERVICES = "prefect._internal.concurrency"


class _Once(logging.Handler):
    """One line, at the first message."""

    _said = False

    def emit(self, record: logging.LogRecord) -> None:
        if self._said:
            return
        self._said = True
        progress_display().line(
            "rosita: Prefect's server does not take what this run tells it; the run goes on, and "
            "Prefect's pages may lack some of it"
        )


def summarize_losses() -> None:
    """Have them said in one line, for the rest of the process."""
    logger = logging.getLogger(SERVICES)
    logger.propagate = False
    logger.handlers = [_Once(logging.ERROR)]
    # The worker that sends log messages prints its own tracebacks where this is set.
    logging.raiseExceptions = False
