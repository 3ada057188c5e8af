"""What MLflow refuses: the rest is sent, and it can be asked for again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow_server import MlflowServer
from recorded_runs import (
    TASK,
    begin,
    check_complete,
    client,
    end,
    in_another_process,
    learn,
    now,
    sync_refused_into,
    versions,
    wait_until_sent,
)

from tasks.tracking.abandoned import open_runs, refused
from tasks.tracking.sync import sync

pytestmark = pytest.mark.usefixtures("told")


def test_what_mlflow_refuses_does_not_block_the_rest(
    server: MlflowServer, home: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    since = now()
    tracking, parent, child = begin(home)
    tracking.log_params(child, {"rate": "another", "fine": "1", "not/?allowed": "2"})
    tracking.log_metrics(child, 0, {"bad\nname": 1.0, "good": 2.0})
    learn(tracking, child)
    end(tracking, home, parent, child, checkpoint, "8" * 64)
    wait_until_sent(tracking)
    whole = check_complete(server, since)
    assert whole["student"]["params"]["rate"] == "2e-05"
    assert whole["student"]["params"]["fine"] == "1"
    assert whole["student"]["curves"]["good"] == [(0, 2.0)]
    said = [one.message for one in caplog.records if "does not accept" in one.message]
    for name in ("rate", "not/?allowed", "bad\nname"):
        assert any(f"does not accept {name} of run" in one for one in said)
    assert len(said) == 3


def test_an_experiment_deleted_during_a_run_comes_back(
    server: MlflowServer, home: Path, checkpoint: Path
) -> None:
    since = now()
    tracking, parent, child = begin(home)
    learn(tracking, child, 0, 10)
    wait_until_sent(tracking)
    mlflow = client(server)
    experiment = mlflow.get_experiment_by_name(f"rosita-{TASK}")
    assert experiment is not None
    mlflow.delete_experiment(experiment.experiment_id)
    later = tracking.start_parent(TASK, "later", {}, 3, None, None)
    tracking.finish(later, "FINISHED", {}, {})
    wait_until_sent(tracking)
    mlflow.delete_experiment(experiment.experiment_id)
    learn(tracking, child, 10, 30)
    end(tracking, home, parent, child, checkpoint, "9" * 64)
    wait_until_sent(tracking)
    late = tracking.run_id(later)
    assert late is not None
    mlflow.delete_run(late)
    check_complete(server, since)
    assert refused(home) == 0


def test_what_was_refused_can_be_asked_for_again(
    server: MlflowServer, home: Path, checkpoint: Path, tmp_path: Path
) -> None:
    since = now()
    tracking, parent, child = begin(home)
    learn(tracking, child, 0, 10)
    wait_until_sent(tracking)
    deleted = [tracking.run_id(run) for run in (child, parent)]
    for run_id in deleted:
        client(server).delete_run(run_id)
    learn(tracking, child, 10, 30)
    end(tracking, home, parent, child, checkpoint, "a" * 64)
    wait_until_sent(tracking)
    assert [run.state for run in open_runs(home)] == ["refused", "refused"]
    assert sync(home).refused == 2
    assert sync(home, refused_too=True).refused == 2
    for run_id in deleted:
        client(server).restore_run(run_id)
    assert in_another_process(sync_refused_into, home, tmp_path / "report.json") == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert [run["problem"] for run in report["runs"]] == [None, None]
    assert report["refused"] == 0
    check_complete(server, since)
    assert len(versions(server, "a" * 64)) == 1
    assert open_runs(home) == []
