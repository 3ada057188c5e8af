"""What a command does where Prefect's server got lost while a flow ran.

Prefect raises the loss of its server in place of whatever a flow returned or raised. Both are kept
here, and the command line finds them again. And Prefect's background services would print each
event and each message that is lost, whole, on the terminal; the user needs to know once.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.home import Home
from tasks.host.failure import Failure
from tasks.host.private_files import private_files
from tasks.host.terminal import progress_display
from tasks.host.wording import error_line, trace_of

SERVICES = "prefect._internal.concurrency"

_achieved: dict[str, Any] | None = None
_begun = False


def achieved(document: dict[str, Any]) -> dict[str, Any]:
    """Note what a flow is about to return, all of it being written down; returns it."""
    global _achieved
    _achieved = document
    return document


def begun() -> None:
    """Note that a flow run has begun to work."""
    global _begun
    _begun = True


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


def run_flow(
    home: Path, name: str, flow: Callable[[], Any], expected: tuple[type[Exception], ...]
) -> Any:
    """What a flow returns; a failure that it does not know of as one line.

    Args:
        name: of the file in the home's logs that has the traceback then.
        expected: failures that speak for themselves.
    """
    global _achieved, _begun
    # What an earlier run came to says nothing about this one.
    _achieved, _begun = None, False
    summarize_losses()
    try:
        with private_files():
            return flow()
    except expected:
        raise
    except Exception as error:
        # Mostly a server of Prefect that cannot be reached; the trace tells the rest.
        trace = Home(home).logs / f"{name}.txt"
        # On a full disk the error itself says more than that its trace found no room.
        with contextlib.suppress(OSError):
            trace.parent.mkdir(parents=True, exist_ok=True)
            trace.write_text(trace_of(error), encoding="utf-8")
        cause = error_line(error)
        lost = f"Prefect was not told how it ended ({cause}); its traceback is {trace}"
        if (document := _achieved) is not None:
            print(f"rosita: the run is complete, but {lost}", file=sys.stderr)
            return document
        if (failure := hidden(error, expected)) is not None:
            raise Failure(f"{failure}; {lost}") from error
        came_to = "ended early" if _begun else "did not start"
        raise Failure(f"the run {came_to}: {cause}; its traceback is {trace}") from error
