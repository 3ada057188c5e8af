"""What is written down of a run before any server hears of it, and who may go on with it."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest
from mlflow.entities import Metric
from recorded_runs import POINTS, begin, learn, until
from serving import free_ports

from flows.maintenance.doctor_services import OK, WARNING, check_mirror
from tasks.home import Home
from tasks.tracking import process as recording
from tasks.tracking import recorder
from tasks.tracking.abandoned import hold, is_recording, open_runs, taken, waiting
from tasks.tracking.mirror import complete_document
from tasks.tracking.runs import Tracking


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a server that is not there."""
    uri = f"http://127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return uri


def test_a_completed_document_keeps_its_times(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({"mlflow_run_id": None, "registered_model": None}))
    os.utime(path, ns=(10**18, 10**18 + 7))
    complete_document(path, "run", None)
    assert json.loads(path.read_text())["mlflow_run_id"] == "run"
    assert path.stat().st_mtime_ns == 10**18 + 7


def test_the_home_has_all_of_it_while_the_server_is_away(home: Path, away: str) -> None:
    tracking, parent, child = begin(home)
    learn(tracking, child)
    tracking.finish(child, "FINISHED", {"score": 0.5}, {})
    assert not tracking.flush(5)
    with sqlite3.connect(home / "mlflow.db") as database:
        told = dict(database.execute("select key, value from tags where run_uuid = ?", (child,)))
        steps = database.execute(
            "select step from metrics where run_uuid = ? and key = 'train/loss'", (child,)
        ).fetchall()
    assert sorted(step for (step,) in steps) == list(range(POINTS))
    assert told["mlflow.parentRunId"] == parent
    assert (told["rosita.mirror"], told["rosita.mirror_state"]) == (away, "waiting")
    # Those of a living process wait for nobody else.
    assert {run.id for run in open_runs(home)} == {parent, child}
    assert waiting(home) == 0
    tracking.finish(parent, "FINISHED", {}, {})


def test_what_waits_is_told(home: Path, away: str) -> None:
    assert check_mirror(home).status == OK
    tracking, parent, child = begin(home)
    assert tracking._recording.recorder.thread.flush(60)
    with sqlite3.connect(home / "mlflow.db") as database:
        # As of a process that is gone.
        database.execute("update tags set value = 'gone' where key = 'rosita.recorder'")
    assert waiting(home) == 2
    found = check_mirror(home)
    assert (found.status, "2 runs of ended processes not sent" in found.detail) == (WARNING, True)
    for run in (child, parent):
        tracking.finish(run, "FINISHED", {}, {})


def test_the_threads_outlive_a_closed_terminal(
    home: Path, away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Closed:
        def line(self, text: str) -> None:
            told.append(text)
            raise BrokenPipeError

    monkeypatch.setattr(recording, "progress_display", Closed)
    tracking, parent, child = begin(home)
    until(lambda: told != [])
    learn(tracking, child)
    assert tracking._recording.recorder.thread.flush(60)
    assert not tracking.flush(5)
    for run in (child, parent):
        tracking.finish(run, "FINISHED", {}, {})
    assert tracking._recording.recorder.thread.flush(60)


def test_a_process_holds_its_runs_as_long_as_it_lives(tmp_path: Path) -> None:
    descriptor = hold(tmp_path, "a")
    assert is_recording(tmp_path, "a")
    with taken(tmp_path, "a") as free:
        assert not free
    os.close(descriptor)
    assert not is_recording(tmp_path, "a")
    with taken(tmp_path, "a") as free, taken(tmp_path, "a") as again:
        assert (free, again) == (True, False)
    assert Home(tmp_path).recorders() == []


def test_a_run_of_another_process_is_refused(home: Path) -> None:
    with pytest.raises(ValueError, match="run must be open in this process, got x"):
        Tracking(home).log_params("x", {"a": "1"})


def test_it_is_said_where_values_are_no_longer_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that fails does not fill the memory, and nobody takes its curves for whole."""
    monkeypatch.setattr(recorder, "MOST", 3)
    (tmp_path / "mlflow.db").mkdir()
    said: list[str] = []
    writer = recorder.Recorder(tmp_path, said.append)
    writer.start("run", "rosita-smoke", "smoke", 0, {})
    for step in range(8):
        writer.put("run", recorder.Entry(values=(Metric("loss", 1.0, 0, step),)))
    assert [line for line in said if "lacks metrics from here on" in line] == [
        f"MLflow's store in {tmp_path} lacks metrics from here on: {recorder.FULL}"
    ]
