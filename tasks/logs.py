"""Where a stage says what a user should know: Prefect's logger of the run, or the plain one."""

import logging

from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


def run_logger() -> Logger:
    """The logger of the flow or task run that is going on; outside one, the project's."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("rosita")
