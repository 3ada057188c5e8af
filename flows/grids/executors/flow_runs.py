"""The cells of a grid as flow runs of their own, which the workers of a pool share.

A stage that several cells need is computed by the first and waited for by the others, as between
the processes of one machine: the stage locks are in the home that all workers share.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.states import AwaitingRetry

POLL_SECONDS = 5.0


class SpreadError(RuntimeError):
    """Cells did not complete."""


def run_everywhere(
    cells: Sequence[str], deployment: str, parameters: Mapping[str, Any]
) -> dict[str, str]:
    """Run a deployment once for each cell and wait for all; returns the runs' ids.

    Args:
        cells: their ids.
        deployment: `flow/name`, whose parameter `only` takes cells.
        parameters: all others.

    Raises:
        SpreadError: once all have ended, where some did not complete.
    """
    parent = str(runtime.flow_run.id)
    runs: dict[str, UUID] = {}
    for cell in cells:
        run: Any = run_deployment(
            deployment,
            parameters={**parameters, "only": [cell]},
            # A run that starts again after it was lost finds the runs that it made before.
            idempotency_key=f"{parent}-{cell}",
            timeout=0,
        )
        runs[cell] = run.id
        _retry_if_ended(run)
    ended = _wait(runs)
    others = [f"{cell} is {state}" for cell, state in ended.items() if state != "Completed"]
    if others:
        raise SpreadError(f"{len(others)} of {len(cells)} cells did not complete: {others[0]}")
    return {cell: str(run_id) for cell, run_id in runs.items()}


def _retry_if_ended(run: FlowRun) -> None:
    """A grid that is retried finds the runs of its cells; those that failed are tried again."""
    if run.state is not None and run.state.is_final() and not run.state.is_completed():
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run.id, AwaitingRetry(), force=True)


def _wait(runs: Mapping[str, UUID]) -> dict[str, str]:
    """The last state of each run, once none of them goes on."""
    ended: dict[str, str] = {}
    with get_client(sync_client=True) as client:
        while len(ended) < len(runs):
            for cell in runs.keys() - ended.keys():
                state = client.read_flow_run(runs[cell]).state
                # A crashed run starts again.
                if state is not None and state.is_final() and not state.is_crashed():
                    ended[cell] = state.name or str(state.type.value)
            if len(ended) < len(runs):
                time.sleep(POLL_SECONDS)
    return ended
