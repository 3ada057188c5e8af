"""What every run of a deployment does around its work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled

from flows.environment import prepare_environment

MOST_STARTS = 4
"""A run whose process was lost starts again, but not for ever where it is lost every time."""


@contextmanager
def deployed_run() -> Iterator[None]:
    """Prepare the process before anything heavy is imported, and tell Prefect of a cancellation.

    Raises:
        RuntimeError: in a run that was lost too often; Prefect calls it failed, and leaves it.
    """
    prepare_environment()
    starts = int(runtime.flow_run.run_count or 1)
    if starts > MOST_STARTS:
        raise RuntimeError(
            f"its process was lost {MOST_STARTS} times, so it does not start again; a new run goes "
            "on from what is saved"
        )
    try:
        yield
    except TerminationSignal:
        _cancelled_if_asked()
        raise


def _cancelled_if_asked() -> None:
    """A run that was cancelled is cancelled, once its stage has saved a checkpoint.

    Prefect takes a signal for a crash where its own handler is not the one that was called, and a
    stage that saves has one of its own.
    """
    from flows.running import one_line
    from tasks.logs import warn

    try:
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(runtime.flow_run.id)
            if run.state is not None and run.state.is_cancelling():
                client.set_flow_run_state(run.id, Cancelled(message="cancelled"), force=True)
    except Exception as error:
        # The run ends in any case; what Prefect then shows is a crash.
        warn(f"Prefect's server was not told that the run is cancelled: {one_line(error)}")
