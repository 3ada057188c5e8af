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

from tasks.tracking.outbox.box import Outbox
from tasks.tracking.outbox.delivery import Delivery
from tasks.tracking.runs import Tracking

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


def test_a_journal_is_sent_once_by_whoever_takes_it(server: MlflowServer, home: Path) -> None:
    since = now()
    outbox = Outbox(home)
    header = {"op": "create", "handle": "f" * 32, "uri": server.uri, "parent": None}
    header |= {"experiment": f"rosita-{TASK}", "name": "demo", "tags": {}, "time": now()}
    journal = outbox.start(header)
    assert outbox.take(journal.path) is None
    Delivery(home, server.uri).send(journal)
    first = journal.state.run_id
    # As after a crash: the state is from before the request.
    journal.state.run_id, journal.state.offset, journal.state.sent = None, 0, 0
    journal.note()
    journal.release()
    again = outbox.take(journal.path)
    assert again is not None
    Delivery(home, server.uri).send(again)
    assert again.state.run_id == first
    assert [run.info.run_id for run in runs(server, since)] == [first]


def test_a_parent_goes_before_a_child_of_the_same_moment(home: Path) -> None:
    outbox = Outbox(home)
    for handle, parent in (("a", "b"), ("b", None), ("c", "b")):
        outbox.start({"op": "create", "handle": handle, "parent": parent, "time": 5}).release()
    assert outbox.paths()[0].stem == "b"


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
