"""Prefect hears of runs that were killed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Running

from flows.services.dead_runs import tell_of_dead_runs
from tasks.host.liveness import this_process

pytestmark = pytest.mark.usefixtures("in_prefect")


@flow
def nothing() -> None:
    pass


def attempt(home: Path, number: int, run_id: str, started: float, after: float = 0.0) -> None:
    """The record of an attempt that says that it is running, begun some seconds from now."""
    folder = home / "attempts" / "width"
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "stage": "width",
        "key": "0" * 64,
        "components": {
            name: {} for name in ("config", "inputs", "source", "libraries", "numerics")
        },
        "recipe": "smoke",
        "flow_run_id": run_id,
        "status": "running",
        "started": (datetime.now(UTC) + timedelta(seconds=after + number)).isoformat(),
        "finished": None,
        **this_process(),
        "process_started": started,
    }
    (folder / f"{number:06d}.json").write_text(json.dumps(record))


def test_a_run_whose_process_is_gone_has_crashed(tmp_path: Path) -> None:
    lives = this_process()["process_started"]
    with get_client(sync_client=True) as client:
        runs = [client.create_flow_run(nothing, state=Running()) for _ in range(4)]
        attempt(tmp_path, 1, str(runs[0].id), -1.0)
        attempt(tmp_path, 2, str(runs[1].id), lives)
        # Prefect has begun this one again, which has not come to a stage yet.
        attempt(tmp_path, 3, str(runs[2].id), -1.0, after=-60)
        tell_of_dead_runs(tmp_path)
        states = [client.read_flow_run(run.id).state for run in runs]
    assert [state.name for state in states if state is not None] == [
        "Crashed",
        "Running",
        "Running",
        "Running",
    ]
