"""Processes that were killed before MLflow had all of their runs."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_server import MlflowServer
from recorded_runs import (
    POINTS,
    begin,
    check_complete,
    client,
    empty,
    end,
    in_another_process,
    learn,
    now,
    runs,
    synced,
    until,
    versions,
    wait_until_sent,
)

from tasks.home import Home
from tasks.tracking.abandoned import OpenRun, open_runs, waiting
from tasks.tracking.runs import Tracking
from tasks.tracking.sync import sync

pytestmark = pytest.mark.usefixtures("told")


def die_after(moment: str, home: Path, checkpoint: Path, artifact: str) -> None:
    """Record a run; the process dies when the server has answered, before it can note that."""
    real, written = getattr(MlflowClient, moment), threading.Event()

    def fatal(client: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        answer = real(client, *args, **kwargs)
        if client.tracking_uri.startswith("http"):
            written.wait()
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(MlflowClient, moment, fatal)
    tracking, parent, child = begin(home)
    learn(tracking, child)
    end(tracking, home, parent, child, checkpoint, artifact)
    assert tracking._recording.recorder.thread.flush(60)
    written.set()
    tracking.flush(60)


def die_at_once(home: Path) -> None:
    """The process dies before the home's own store has more of a run than that it began."""
    tracking = Tracking(home)
    tracking.start_parent("sst2", "demo", {}, 3, None, None)
    assert tracking._recording.recorder.thread.flush(60)
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_the_middle(home: Path) -> None:
    tracking, _, child = begin(home)
    learn(tracking, child)
    tracking.flush(60)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("moment", ["create_run", "log_batch", "create_model_version"])
def test_killed_between_sending_and_noting(
    server: MlflowServer, home: Path, checkpoint: Path, moment: str
) -> None:
    since = now()
    artifact = {"create_run": "5", "log_batch": "6", "create_model_version": "7"}[moment] * 64
    code = in_another_process(die_after, moment, home, checkpoint, artifact)
    assert code == -signal.SIGKILL
    assert waiting(home) >= 1
    report = sync(home)
    assert [run.problem for run in report.runs] == [None] * len(report.runs)
    check_complete(server, since)
    assert len(versions(server, artifact)) == 1
    until(lambda: empty(home))


def test_a_run_whose_process_was_killed_is_closed(server: MlflowServer, home: Path) -> None:
    since = now()
    assert in_another_process(die_in_the_middle, home) == -signal.SIGKILL
    assert {run.info.status for run in runs(server, since)} == {"RUNNING"}
    sync(home)
    assert [run.info.status for run in runs(server, since)] == ["KILLED", "KILLED"]
    losses = client(server).get_metric_history(runs(server, since)[1].info.run_id, "train/loss")
    assert sorted(point.step for point in losses) == list(range(POINTS))
    assert (empty(home), Home(home).recorders()) == (True, [])


def test_a_run_that_ends_while_others_are_looked_after_stays_as_it_ended(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is there when the open runs are read, and gone when it comes to them."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    tracking = Tracking(home)
    run = tracking.start_parent("sst2", "demo", {}, 3, None, None)
    assert tracking.flush(60)
    recorder = tracking._recording.recorder

    def read(home: Path) -> list[OpenRun]:
        found = open_runs(home)
        monkeypatch.setattr("tasks.tracking.sync.open_runs", open_runs)
        tracking.finish(run, "FINISHED", {}, {})
        assert tracking.flush(60)
        recorder.leave()
        assert recorder._lock is not None
        os.close(recorder._lock)
        return found

    monkeypatch.setattr("tasks.tracking.sync.open_runs", read)
    assert sync(home).in_use == 0
    store = MlflowClient(tracking_uri=tracking.uri)
    assert store.get_run(tracking.run_id(run) or "").info.status == "FINISHED"
    assert Home(home).recorders() == []


def test_without_a_server_the_next_run_closes_what_was_killed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert in_another_process(die_at_once, home) == -signal.SIGKILL
    tracking = Tracking(home)
    later = tracking.start_parent("sst2", "later", {}, 3, None, None)
    store = MlflowClient(tracking_uri=tracking.uri)

    def statuses() -> dict[str, str]:
        found = store.search_runs([store.get_experiment_by_name("rosita-sst2").experiment_id])
        return {run.info.run_name: run.info.status for run in found}

    assert tracking.flush(60)
    until(lambda: statuses() == {"demo": "KILLED", "later": "RUNNING"})
    tracking.finish(later, "FINISHED", {}, {})


def test_a_store_that_cannot_be_written_is_a_problem_of_its_runs(home: Path) -> None:
    """Such as one of another version of MLflow, which has to be upgraded first."""
    assert in_another_process(die_at_once, home) == -signal.SIGKILL
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute("update alembic_version set version_num = '451aebb31d03'")
    [run] = synced(home)["runs"]
    assert (run["name"], run["run_id"]) == ("demo", None)
    assert "schema" in run["problem"]


def test_runs_of_a_living_process_are_left_alone(server: MlflowServer, home: Path) -> None:
    tracking, parent, child = begin(home)
    wait_until_sent(tracking)
    assert synced(home) == {"runs": [], "in_use": 2, "refused": 0, "elsewhere": []}
    assert waiting(home) == 0
    for run in (child, parent):
        tracking.finish(run, "FINISHED", {}, {})
    wait_until_sent(tracking)
    until(lambda: empty(home))


def test_the_next_run_records_what_a_killed_process_left(
    server: MlflowServer, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    since = now()
    assert in_another_process(die_in_the_middle, home) == -signal.SIGKILL
    assert waiting(home) == 2
    killed = [run.info.run_id for run in runs(server, since)]
    begin(home)

    def statuses() -> list[str]:
        return [client(server).get_run(run_id).info.status for run_id in killed]

    until(lambda: statuses() == ["KILLED", "KILLED"])
    until(lambda: waiting(home) == 0)
    wanted = "2 runs that ended before MLflow had all of them are recorded now"
    until(lambda: wanted in [record.message for record in caplog.records])
