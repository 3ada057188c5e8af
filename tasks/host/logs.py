"""Where a stage says what a user should know: Prefect's log of the run, and the terminal."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.host.redaction import redacted
from tasks.host.terminal import progress_display

_unwritten: set[str] = set()

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


def run_logger() -> Logger:
    """The logger of the flow or task run that is going on; outside one, the project's."""
    # Not above: commands that only look at the home do without Prefect.
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_logger, get_run_logger

    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("rosita")


@contextmanager
def noted(what: str) -> Iterator[None]:
    """Notes on the side must not end the work: where they find no room, a warning says so."""
    try:
        yield
    except OSError as error:
        if what not in _unwritten:
            _unwritten.add(what)
            warn(f"{what} could not be written down: {error}")


def warn(message: str) -> None:
    """One line for the user. Prefect's own messages are kept off the terminal; this one is not.

    Addresses in it are shown without the secrets in them.
    """
    said = redacted(message)
    run_logger().warning("%s", said)
    progress_display().line(f"rosita: {said}")
