"""The order in which runs are sent, and that each is sent once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from contexts import stage_context
from mlflow_server import MlflowServer
from recorded_runs import (
    POINTS,
    STAGE,
    TASK,
    begin,
    client,
    empty,
    learn,
    now,
    runs,
    until,
    wait_until_sent,
)

from tasks.host.redaction import default_uri
from tasks.tracking import process, recorder
from tasks.tracking.background import Background
from tasks.tracking.mirror import Mirror
from tasks.tracking.runs import Tracking
from tasks.tracking.store import client_of

pytestmark = pytest.mark.usefixtures("told")


def test_runs_of_several_threads_keep_their_order(server: MlflowServer, home: Path) -> None:
    since = now()
    tracking = Tracking(home)
    parent = tracking.start_parent(TASK, "demo", {}, 3, None, None)
    opened = [
        tracking.start_child(STAGE, stage_context(home, parent, TASK), "k", number, cached=False)
        for number in range(4)
    ]
    threads = [threading.Thread(target=learn, args=(tracking, run)) for run in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in (*opened, parent):
        tracking.finish(run, "FINISHED", {}, {})
    wait_until_sent(tracking)
    found = runs(server, since)
    assert found[0].info.run_name == "demo"
    assert {run.data.tags["rosita.attempt"] for run in found[1:]} == {"0", "1", "2", "3"}
    for run in found[1:]:
        curve = client(server).get_metric_history(run.info.run_id, "train/loss")
        assert [point.step for point in sorted(curve, key=lambda p: p.timestamp)] == list(
            range(POINTS)
        )


def test_what_is_sent_again_is_there_once(server: MlflowServer, home: Path) -> None:
    """As after a crash: another process knows nothing of what was sent, nor the copy's id."""
    since = now()
    tracking, parent, child = begin(home)
    learn(tracking, child)
    wait_until_sent(tracking)
    first = [run.info.run_id for run in runs(server, since)]
    ours = client_of(default_uri(home))
    for run in (parent, child):
        ours.delete_tag(run, "rosita.mirror_run")
    again = Mirror(home, server.uri)
    for run in (parent, child):
        again.send(run)
    assert [run.info.run_id for run in runs(server, since)] == first
    losses = client(server).get_metric_history(first[1], "train/loss")
    assert sorted(point.step for point in losses) == list(range(POINTS))
    for run in (child, parent):
        tracking.finish(run, "FINISHED", {}, {})
    wait_until_sent(tracking)


def test_a_server_of_the_home_s_own_store_gets_no_copies(
    home: Path, mlflow_tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`rosita ui` serves the home's own store: a run sent there is there already."""
    own = MlflowServer(tmp_path / "own", mlflow_tables)
    own.start()
    (home / "mlflow.db").unlink()
    (home / "mlflow.db").symlink_to(tmp_path / "own" / "server.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own.uri)
    try:
        tracking, parent, child = begin(home)
        learn(tracking, child)
        for run in (child, parent):
            tracking.finish(run, "FINISHED", {}, {})
        wait_until_sent(tracking)
        assert {run.info.run_id for run in runs(own, 0)} == {parent, child}
        assert tracking.run_id(parent) == parent
        until(lambda: empty(home))
    finally:
        own.kill()


def test_what_comes_while_somebody_waits_is_served_at_once() -> None:
    served: list[str] = []
    thread = Background("a store", "nothing is lost", 1e6, 1, print)
    thread.serve = served.append
    thread.touch("first")
    assert thread.flush(60)
    threading.Timer(0.5, thread.touch, ["second"]).start()
    assert thread.wait(lambda: served == ["first", "second"], 20)


def test_who_waits_for_an_id_does_not_wait_for_more_to_be_gathered(
    server: MlflowServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "GATHER_SECONDS", 1e6)
    monkeypatch.setattr(process, "COPY_SECONDS", 1e6)
    tracking, parent, child = begin(home)
    assert tracking.run_id(parent) is None
    until(lambda: tracking.run_id(parent, 1.0) is not None)
    for run in (child, parent):
        tracking.finish(run, "FINISHED", {}, {})
    wait_until_sent(tracking)


def test_a_run_ends_once(server: MlflowServer, home: Path) -> None:
    since = now()
    tracking, parent, child = begin(home)
    for run in (child, parent):
        tracking.finish(run, "FINISHED", {"score": 0.5}, {})
        tracking.finish(run, "KILLED", {"score": 0.0}, {})
    wait_until_sent(tracking)
    until(lambda: empty(home))
    tracking.finish(parent, "KILLED", {"score": 0.0}, {})
    wait_until_sent(tracking)
    found = runs(server, since)
    assert [run.info.status for run in found] == ["FINISHED", "FINISHED"]
    assert [run.data.metrics["score"] for run in found] == [0.5, 0.5]
