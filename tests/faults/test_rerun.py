"""`rosita rerun`: a stage again, whatever the cache says, and what follows from it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest
from faulty import SETTINGS, STAGES, Done, FaultyHome, signals_at
from mlflow import MlflowClient

MakeHome = Callable[[str | None], FaultyHome]

TERMINATED = 128 + signal.SIGTERM
RECIPE = ("--recipe", "smoke", *(f"--set={setting}" for setting in SETTINGS), "--json")


def rerun(place: FaultyHome, *args: str, **options: object) -> Done:
    return place.run("rerun", *args, *RECIPE, **options)


@pytest.mark.long
def test_one_stage_alone_then_what_follows(home_before: MakeHome, undisturbed: Done) -> None:
    place = home_before(None)
    before = undisturbed.artifacts()["depth"]

    done = rerun(place, "depth", "--only")
    assert done.code == 0, done.stderr
    document = json.loads(done.stdout)["stage"]
    assert (document["name"], document["attempt"], document["artifact"]) == ("depth", 2, before)
    assert [len(place.attempts(stage)) for stage in ("student", "depth", "width")] == [1, 2, 1]
    # The same bits, so that everything after it stands.
    assert set(place.compress().statuses().values()) == {"cached"}

    done = rerun(place, "depth", "--only", "--set=depth.learning_rate=5e-3")
    assert json.loads(done.stdout)["stage"]["artifact"] != before
    done = place.compress("depth.learning_rate=5e-3")
    ran = ("width", "assess", "export")
    assert done.statuses() == {s: "completed" if s in ran else "cached" for s in STAGES}


def test_downstream_runs_all_that_depends_on_it(home_before: MakeHome, undisturbed: Done) -> None:
    place = home_before(None)
    done = rerun(place, "depth", "--downstream")
    ran = ("depth", "width", "assess", "export")
    assert done.statuses() == {s: "completed" if s in ran else "cached" for s in STAGES}
    assert done.artifacts() == undisturbed.artifacts()
    # Every attempt is a run of its own in MLflow, with its number.
    client = MlflowClient(f"sqlite:///{place.home}/mlflow.db")
    experiment = client.get_experiment_by_name("rosita-smoke")
    found = client.search_runs(
        [experiment.experiment_id],
        "tags.`rosita.stage` = 'width' and tags.`rosita.cached` = 'false'",
    )
    assert sorted(run.data.tags["rosita.attempt"] for run in found) == ["1", "2"]


def test_the_rest_follows_only_where_something_changed(
    home_before: MakeHome, undisturbed: Done
) -> None:
    place = home_before(None)
    done = rerun(place, "depth")
    assert done.statuses() == {s: "completed" if s == "depth" else "cached" for s in STAGES}
    assert done.artifacts() == undisturbed.artifacts()


@pytest.mark.long
def test_a_stopped_rerun_goes_on_and_another_begins_anew(
    home_before: MakeHome, undisturbed: Done
) -> None:
    place = home_before("width")
    # A checkpoint of an ordinary run is none of a rerun's.
    assert place.compress(faults=[signals_at("width", 5, "SIGTERM")]).code == TERMINATED
    done = rerun(place, "width", faults=[signals_at("width", 9, "SIGTERM")])
    assert done.code == TERMINATED
    done = rerun(place, "width")
    assert done.artifacts() == undisturbed.artifacts()
    assert place.resumed_from("width") == [None, None, 9]
    # That one is complete, so the next begins anew.
    assert rerun(place, "width").code == 0
    assert place.resumed_from("width") == [None, None, 9, None]


def test_what_cannot_be_rerun_is_refused(home_before: MakeHome) -> None:
    place = home_before("student")
    done = rerun(place, "width", "--only")
    assert (done.code, done.stdout) == (2, "")
    assert done.last_line == (
        "rosita: stage width must have its inputs in the cache to run alone, got none of depth; "
        "run without --only, or those first"
    )
    done = rerun(place, "widht")
    assert done.code == 2
    assert "stage must be one of data, teacher, augment" in done.last_line
    done = rerun(place, "width", "--only", "--downstream")
    assert done.code == 2
    assert done.last_line == "rosita: rerun must have one of --only and --downstream, got both"
    assert [place.attempts(stage) for stage in ("width", "depth", "student")] == [[], [], []]
