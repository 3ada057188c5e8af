"""Processes that were killed before MLflow had all of their runs."""

from __future__ import annotations

import os
import signal
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

from tasks.tracking.outbox.box import Outbox, waiting
from tasks.tracking.outbox.sync import sync

pytestmark = pytest.mark.usefixtures("told")


def die_after(moment: str, home: Path, checkpoint: Path, artifact: str) -> None:
    """Record a run; the process dies when MLflow has answered, before it can note the answer."""
    real = getattr(MlflowClient, moment)

    def fatal(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(MlflowClient, moment, fatal)
    tracking, parent, child = begin(home)
    learn(tracking, child)
    end(tracking, home, parent, child, checkpoint, artifact)
    tracking.flush(60)


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
    # What was being written at that moment is no operation.
    journal = Outbox(home).paths()[-1]
    with journal.open("a") as file:
        file.write('{"op": "metrics", "val')
    sync(home)
    assert [run.info.status for run in runs(server, since)] == ["KILLED", "KILLED"]


def test_journals_of_a_living_process_are_left_alone(server: MlflowServer, home: Path) -> None:
    tracking, parent, child = begin(home)
    assert synced(home) == {"runs": [], "in_use": 2, "refused": 0}
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


def test_a_state_that_cannot_be_read_sends_everything_again(
    server: MlflowServer, home: Path
) -> None:
    since = now()
    assert in_another_process(die_in_the_middle, home) == -signal.SIGKILL
    for path, state in zip(Outbox(home).paths(), (b"", b'{"run_id": "a\xff'), strict=True):
        path.with_suffix(".json").write_bytes(state)
        path.with_name(f".{path.stem}.json.half").write_bytes(state)
    report = sync(home)
    assert [run.problem for run in report.runs] == [None, None]
    found = runs(server, since)
    assert [run.info.status for run in found] == ["KILLED", "KILLED"]
    losses = client(server).get_metric_history(found[1].info.run_id, "train/loss")
    assert sorted(point.step for point in losses) == list(range(POINTS))
    until(lambda: empty(home))
