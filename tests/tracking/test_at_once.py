"""A run that is written at once is the run that MLflow's own client would have written."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from contexts import stage_context
from mlflow.entities import Metric, Param, RunTag
from recorded_runs import STAGE, TASK, begin
from sqlalchemy import event
from sqlalchemy.engine import Engine
from stage_results import stage_result

from tasks.host.redaction import default_uri
from tasks.tracking.experiments import Experiments
from tasks.tracking.store import NewRun, Value, accepted, client_of, write_run

NOT_A_NUMBER, INFINITE = float("nan"), float("inf")
VALUES: list[Value] = [
    Param("rate", "2e-05"),
    Param("long", "x" * 7000),
    Metric("loss", 2.0, 1000, 0),
    Metric("loss", 1.0, 1001, 2),
    Metric("loss", 3.0, 1002, 1),
    # The same point again, and another value at the same step.
    Metric("loss", 1.0, 1001, 2),
    Metric("loss", 0.5, 1001, 2),
    Metric("undefined", NOT_A_NUMBER, 1000, 0),
    Metric("endless", -INFINITE, 1000, 0),
    RunTag("rosita.stage", "student"),
    RunTag("mlflow.note.content", "a"),
]


def rows(home: Path, run: str) -> dict[str, Any]:
    """All that the tables have of a run, but for its id."""
    queries = {
        "runs": "select name, source_type, source_name, entry_point_name, user_id, status, "
        "start_time, end_time, deleted_time, source_version, lifecycle_stage, experiment_id "
        "from runs",
        "params": "select key, value from params",
        "tags": "select key, value from tags",
        "metrics": "select key, value, timestamp, step, is_nan from metrics",
        "latest_metrics": "select key, value, timestamp, step, is_nan from latest_metrics",
    }
    with sqlite3.connect(home / "mlflow.db") as database:
        return {
            name: sorted(database.execute(f"{query} where run_uuid = ?", (run,)))
            for name, query in queries.items()
        }


def test_it_is_what_the_client_writes(home: Path) -> None:
    client = client_of(default_uri(home))
    place = Experiments(home, default_uri(home)).id(client, "rosita-sst2")
    ours = NewRun("a" * 32, "student", 900, {"x": "y"})
    values = accepted(VALUES)
    assert values is not None
    assert write_run(home, place, ours, values, ("FINISHED", 2000))
    theirs = client.create_run(place, 900, {"x": "y"}, "student").info.run_id
    client.log_batch(
        theirs,
        [one for one in VALUES if isinstance(one, Metric)],
        [one for one in VALUES if isinstance(one, Param)],
        [one for one in VALUES if isinstance(one, RunTag)],
    )
    client.set_terminated(theirs, "FINISHED", 2000)
    assert rows(home, ours.id) == rows(home, theirs)
    # What is there is left as it is.
    assert not write_run(home, place, ours, [Metric("later", 1.0, 1, 1)], None)
    assert rows(home, ours.id) == rows(home, theirs)


@pytest.mark.parametrize(
    "wrong", [Param("not/?allowed", "1"), Metric("bad\nname", 1.0, 0, 0), Param("rate", "another")]
)
def test_what_the_client_would_refuse_goes_the_long_way(wrong: Value) -> None:
    assert accepted([*VALUES, wrong]) is None


def test_a_stage_from_the_cache_is_one_transaction(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking, parent, _ = begin(home)
    assert tracking.flush(60)
    result = stage_result("student", "b" * 64, "c" * 64)
    commits: list[object] = []
    note = commits.append
    event.listen(Engine, "commit", note)
    try:
        run = tracking.record_cached(STAGE, result, stage_context(home, parent, TASK))
        assert tracking.flush(60)
    finally:
        event.remove(Engine, "commit", note)
    assert run is not None
    assert len(commits) == 1
    found = client_of(tracking.uri).get_run(run)
    assert (found.info.status, found.data.metrics["score"]) == ("FINISHED", 0.5)
    assert found.data.tags["rosita.shape"] == "a2"
