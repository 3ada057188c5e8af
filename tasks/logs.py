"""Where a stage says what a user should know: Prefect's log of the run, and the terminal."""

import logging

from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger

from tasks.progress import progress_display

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


def run_logger() -> Logger:
    """The logger of the flow or task run that is going on; outside one, the project's."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("rosita")


def warn(message: str) -> None:
    """One line for the user. Prefect's own messages are kept off the terminal; this one is not."""
    run_logger().warning("%s", message)
    progress_display().line(f"rosita: {message}")
