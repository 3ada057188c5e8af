"""MLflow goes away in the middle of a run: the run ends as if it had not, and all of it is sent.

The run that never finds an MLflow is `tests/runs/test_sync.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty import STAGES, Done, FaultyHome, hold_at
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow_server import MlflowServer

MakeHome = Callable[[str | None], FaultyHome]


@pytest.fixture
def server(tmp_path: Path, mlflow_tables: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path / "mlflow", mlflow_tables)
    server.start()
    yield server
    server.kill()


def runs(server: MlflowServer) -> list[Run]:
    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name("rosita-smoke")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def check_runs(server: MlflowServer, flow_run_id: str) -> None:
    """One parent and one child per stage, all of them ended, and the whole course of `width`."""
    found = runs(server)
    assert {run.info.status for run in found} == {"FINISHED"}
    assert {run.data.tags["prefect.flow_run_id"] for run in found} == {flow_run_id}
    stages = [run.data.tags.get("rosita.stage", "parent") for run in found]
    assert sorted(stages) == sorted(["parent", *STAGES])
    width = found[stages.index("width")]
    client = MlflowClient(tracking_uri=server.uri)
    course = client.get_metric_history(width.info.run_id, "train/loss")
    assert [metric.step for metric in course] == list(range(1, 16))


@pytest.mark.parametrize("back", ["during the run", "after the run"])
def test_lost_in_the_middle(
    home_before: MakeHome, undisturbed: Done, server: MlflowServer, tmp_path: Path, back: str
) -> None:
    place, flag = home_before("width"), tmp_path / "go-on"
    env = {"MLFLOW_TRACKING_URI": server.uri}
    run = place.start_compress(faults=[hold_at("width", 5, flag)], env=env)
    run.until_held(flag)
    server.kill()
    flag.touch()
    if back == "during the run":
        server.start()
    done = run.done()
    assert done.artifacts() == undisturbed.artifacts()
    assert "Traceback" not in done.stderr
    if back == "after the run":
        assert f"MLflow at {server.uri} does not answer" in done.stderr
        server.start()
    sent = place.run("sync")
    assert sent.code == 0, sent.stderr
    check_runs(server, done.summary["run_id"])
    assert place.run("sync").stdout == "nothing waits\n"
