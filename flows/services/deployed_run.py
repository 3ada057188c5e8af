"""Steps around the work of a flow run: its process, its request, telling of a cancellation."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.exceptions import Abort, TerminationSignal
from prefect.states import Cancelled

from tasks.host.environment import prepare_environment
from tasks.host.private_files import private_files

_prepared: ContextVar[Any] = ContextVar("prepared", default=None)

MOST_STARTS = 4
"""A run whose process was lost starts again, but not for ever where it is lost every time.
Prefect counts all starts as one: retries by hand and stops of a worker are among them."""


@contextmanager
def deployed_run() -> Iterator[None]:
    """Prepare the process before anything heavy is imported, and tell Prefect of a cancellation.

    Raises:
        RuntimeError: in a run that started too often; Prefect calls it failed, and leaves it.
    """
    prepare_environment()
    starts = int(runtime.flow_run.run_count or 1)
    if starts > MOST_STARTS:
        raise RuntimeError(
            f"it has started {MOST_STARTS} times, as it was retried or its process was lost, so it "
            "does not start again; a new run goes on from what is saved"
        )
    try:
        with private_files():
            yield
    except TerminationSignal:
        if _cancelled():
            # Prefect's own way to end a run whose state others have decided.
            raise Abort("cancelled") from None
        raise


@contextmanager
def prepared(request: Any) -> Iterator[None]:
    """A flow of the block does what the request says, which its parameters describe."""
    token = _prepared.set(request)
    try:
        yield
    finally:
        _prepared.reset(token)


def request_before() -> Any:
    """What was checked before this flow run was started, in the same process; None elsewhere."""
    return _prepared.get()


def given_name() -> str | None:
    """The name that somebody gave this flow run; None where Prefect has made one up."""
    from coolname.data import config

    parts: dict[str, Any] = config
    words = {word for part in parts.values() for word in part.get("words", ())}
    name = runtime.flow_run.name
    return None if name is None or words.issuperset(name.split("-")) else str(name)


def _cancelled() -> bool:
    """Whether the run was cancelled, and Prefect knows that it has ended.

    Prefect takes a signal for a crash where its own handler is not the one that was called, and a
    stage that saves a checkpoint first has one of its own.
    """
    from tasks.host.logs import warn
    from tasks.host.wording import error_line

    try:
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(runtime.flow_run.id)
            if run.state is None or not (run.state.is_cancelling() or run.state.is_cancelled()):
                return False
            # A worker that stops now would send another, which ends the run as crashed after all.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            client.set_flow_run_state(run.id, Cancelled(message="cancelled"), force=True)
            return True
    except Exception as error:
        # The run ends in any case; what Prefect then shows is a crash.
        warn(f"Prefect's server was not told that the run is cancelled: {error_line(error)}")
        return False
