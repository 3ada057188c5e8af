"""What a command does where Prefect's server got lost while a flow ran.

Prefect raises the loss of its server in place of whatever a flow returned or raised. Both are kept
here, and the command line finds them again. And Prefect's background services would print each
event and each message that is lost, whole, on the terminal; the user needs to know once.
"""

from __future__ import annotations

import logging
from typing import Any

from tasks.host.terminal import progress_display

SERVICES = "prefect._internal.concurrency"

_achieved: dict[str, Any] | None = None
_begun = False


def achieved(document: dict[str, Any]) -> dict[str, Any]:
    """Note what a flow is about to return, all of it being written down; returns it."""
    global _achieved
    _achieved = document
    return document


def forget() -> None:
    """Before a new flow run: what an earlier one came to says nothing about it."""
    global _achieved, _begun
    _achieved, _begun = None, False


def begun() -> None:
    """Note that a flow run has begun to work."""
    global _begun
    _begun = True


def has_begun() -> bool:
    """Whether the last flow run of this process came as far as that."""
    return _begun


def last_achieved() -> dict[str, Any] | None:
    """What the last flow run of this process returned, or would have."""
    return _achieved


def hidden(
    error: BaseException, kind: type[BaseException] | tuple[type[BaseException], ...]
) -> BaseException | None:
    """The error of a kind during whose handling `error` was raised, if there is one."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, kind):
        seen = seen.__cause__ or seen.__context__
    return seen


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
