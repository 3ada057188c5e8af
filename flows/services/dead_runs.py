"""Flow runs whose process was killed: Prefect hears of it when the home's next run starts."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

from tasks.cache.records import attempts
from tasks.host.liveness import DIED, attempt_state
from tasks.stages.catalogue import catalogue

GONE = "its process was killed; the next run of the recipe goes on from what is saved"


def tell_of_dead_runs(home: Path) -> None:
    """End the runs that Prefect believes to be running, and whose process is gone, as crashed."""
    dead = _dead(home)
    if not dead:
        return
    running = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
    )
    with get_client(sync_client=True) as client:
        try:
            for run in client.read_flow_runs(flow_run_filter=running):
                begun = run.state.timestamp if run.state is not None else None
                # A run that Prefect has begun again since then has no attempt of its own yet.
                if begun is not None and begun < dead.get(str(run.id), begun):
                    client.set_flow_run_state(run.id, Crashed(message=GONE), force=True)
        except httpx.HTTPError:
            # A note on runs of the past keeps no other from running.
            return


def _dead(home: Path) -> dict[str, datetime]:
    """Runs whose newest attempt says that it is running, while its process is gone -> its start."""
    records = [record for stage in catalogue() for record in attempts(home, stage)]
    newest = {one["flow_run_id"]: one for one in sorted(records, key=lambda one: one["started"])}
    return {
        str(id_): datetime.fromisoformat(one["started"])
        for id_, one in newest.items()
        if id_ and attempt_state(one) == DIED
    }
