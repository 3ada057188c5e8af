"""MLflow dies, freezes and comes back: nothing reaches the caller, nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
from contexts import stage_context
from mlflow_server import MlflowServer
from recorded_runs import (
    STAGE,
    TASK,
    begin,
    check_complete,
    client,
    empty,
    end,
    in_another_process,
    learn,
    now,
    record_a_run,
    runs,
    synced,
    until,
    versions,
    wait_until_sent,
)

from tasks.execution.attempt import carry_out
from tasks.execution.work import Computed, Work
from tasks.tracking.abandoned import waiting
from tasks.tracking.runs import Tracking
from tasks.tracking.sync import Report, sync

pytestmark = pytest.mark.usefixtures("told")


def test_offline_and_then_sent_is_the_same_as_online(
    machine: MlflowServer, home: Path, tmp_path: Path, checkpoint: Path, mlflow_tables: Path
) -> None:
    machine.kill()
    since = now()
    assert in_another_process(record_a_run, home, checkpoint, "4" * 64) == 0
    assert waiting(home) == 2
    failed = sync(home)
    assert [run.run_id for run in failed.runs] == [None, None]
    assert all(run.problem == "it cannot be reached" for run in failed.runs)

    machine.start()
    report = synced(home)
    assert (len(report["runs"]), report["in_use"]) == (2, 0)
    sent = check_complete(machine, since)
    assert len(versions(machine, "4" * 64)) == 1
    filled = json.loads((home / "runs" / "flow" / "summary.json").read_text())
    assert filled["mlflow_run_id"] == runs(machine, since)[0].info.run_id
    assert filled["registered_model"]["version"] == versions(machine, "4" * 64)[0]
    assert (waiting(home), empty(home)) == (0, True)
    assert sync(home) == Report([], 0)

    since = now()
    (tmp_path / "online").mkdir()
    shutil.copy(mlflow_tables, tmp_path / "online" / "mlflow.db")
    tracking, parent, child = begin(tmp_path / "online")
    learn(tracking, child)
    end(tracking, tmp_path / "online", parent, child, checkpoint, "3" * 64)
    wait_until_sent(tracking)
    assert check_complete(machine, since) == sent


def test_lost_in_the_middle_and_back(
    server: MlflowServer, home: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    since = now()
    tracking, parent, child = begin(home)
    learn(tracking, child, 0, 10)
    assert tracking.flush(30)
    server.kill()
    try:
        learn(tracking, child, 10, 20)
        # As soon as it is known not to answer, nobody waits for it.
        until(lambda: any("does not answer" in record.message for record in caplog.records))
        began = time.monotonic()
        assert not tracking.flush(60)
        assert time.monotonic() - began < 60
        learn(tracking, child, 30, 10)
    finally:
        server.start()
    end(tracking, home, parent, child, checkpoint, "1" * 64)
    wait_until_sent(tracking)
    check_complete(server, since)
    assert len(versions(server, "1" * 64)) == 1
    said = [one.message for one in caplog.records if one.name == "tasks.tracking.process"]
    assert len(said) == 2
    assert "does not answer" in said[0]
    assert "answers again" in said[1]
    until(lambda: empty(home))


def test_a_server_that_never_answers(
    server: MlflowServer, home: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracking, parent, child = begin(home)
    for run in (child, parent):
        tracking.finish(run, "FINISHED", {}, {})
    # From here on the experiment is known, and the first request is to create a run.
    wait_until_sent(tracking)
    since = now()
    server.freeze()
    try:
        tracking, parent, child = begin(home)
        learn(tracking, child)
        began = time.monotonic()
        assert tracking.run_id(child, 60) is None
        assert time.monotonic() - began < 60
        summary = end(tracking, home, parent, child, checkpoint, "2" * 64)
        assert not tracking.flush(1)
        until(lambda: any("(no answer in time)" in one.message for one in caplog.records))
    finally:
        server.thaw()
    wait_until_sent(tracking)
    check_complete(server, since)
    filled = json.loads(summary.read_text())
    assert filled["mlflow_run_id"] == tracking.run_id(parent)
    assert filled["registered_model"]["version"] in versions(server, "2" * 64)
    until(lambda: empty(home))


def test_a_request_that_was_given_up_and_carried_out_late(server: MlflowServer, home: Path) -> None:
    since = now()
    tracking, parent, child = begin(home)
    wait_until_sent(tracking)
    place = runs(server, since)[0].info.experiment_id
    client(server).create_run(place, now(), {"rosita.handle": parent}, "demo")
    for run in (child, parent):
        tracking.finish(run, "FINISHED", {}, {})
    wait_until_sent(tracking)
    found = runs(server, since)
    assert [run.info.run_name for run in found] == ["demo", "student"]
    assert found[0].info.run_id == tracking.run_id(parent)


def compute(work: Work) -> Computed:
    with work.output() as folder:
        (folder / "weights").write_text("w")
    return work.computed({})


def test_the_late_id_of_the_run_that_computed_a_stage(server: MlflowServer, home: Path) -> None:
    since = now()
    server.freeze()
    try:
        tracking = Tracking(home)
        parent = tracking.start_parent(TASK, "demo", {}, 3, None, None)
        result = carry_out(compute, STAGE, stage_context(home, parent, TASK))
        assert result.mlflow_run_id is None
        tracking.record_cached(STAGE, result, stage_context(home, parent, TASK))
        tracking.finish(parent, "FINISHED", {}, {})
    finally:
        server.thaw()
    wait_until_sent(tracking)
    _, computed, cached = runs(server, since)
    assert cached.data.tags["rosita.computed_by"] == computed.info.run_id


def test_a_store_that_fails_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A database of another version of MLflow: MLflow is there, and can record nothing."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    home = tmp_path / "broken"
    home.mkdir()
    with contextlib.closing(sqlite3.connect(home / "mlflow.db")) as database:
        database.execute("create table alembic_version (version_num varchar(32))")
        database.execute("insert into alembic_version values ('of another time')")
        database.execute("create table experiments (experiment_id integer)")
        database.commit()
    tracking, _, child = begin(home)
    began = time.monotonic()
    assert not tracking.flush(15)
    assert tracking.run_id(child, 10) is None
    assert time.monotonic() - began < 60
    assert any("MLflow" in record.message for record in caplog.records)


def test_an_error_beside_the_sending_does_not_end_it(server: MlflowServer, home: Path) -> None:
    since = now()
    failed: list[str] = []

    tracking, parent, child = begin(home)
    learn(tracking, child)
    copying = tracking._recording.copying
    real, broken = copying.serve, OSError(5, "Input/output error")

    def fail_once(run: str) -> None:
        if run not in failed:
            failed.append(run)
            raise broken
        real(run)

    copying.serve = fail_once
    for run in (child, parent):
        tracking.finish(run, "FINISHED", {}, {})
    later = tracking.start_parent(TASK, "later", {}, 3, None, None)
    tracking.finish(later, "FINISHED", {}, {})
    wait_until_sent(tracking)
    assert later in failed
    found = {run.info.run_name: run.info.status for run in runs(server, since)}
    assert found == {"demo": "FINISHED", "student": "FINISHED", "later": "FINISHED"}
