"""Compressions that fail, each in a process of its own: what the user sees, and what is kept."""

from __future__ import annotations

import json
from pathlib import Path

from broken_vectors import broken_vectors
from command_line import rosita
from compressions import cached_home, client
from typed_command import Home, RunRosita


def test_a_model_that_cannot_be_logged_is_registered_by_the_same_command_later(
    smoke_home: Home, mlflow_tables: Path, in_own_process: RunRosita, tmp_path: Path
) -> None:
    home = cached_home(smoke_home.home, tmp_path / "home", mlflow_tables)
    obstacle = home / "tmp"
    obstacle.write_text("in the way of the model that is to be logged")
    done = in_own_process("compress", "--recipe", "smoke", "--json", home=home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["registered_model"] is None
    assert "the run goes on, and the model will not be in MLflow" in done.stderr
    obstacle.unlink()
    after = in_own_process("compress", "--recipe", "smoke", "--json", home=home)
    assert json.loads(after.stdout)["registered_model"]["name"] == "rosita-smoke"


def test_what_the_user_sees_of_a_stage_that_fails(
    smoke_home: Home, mlflow_tables: Path, in_own_process: RunRosita, tmp_path: Path
) -> None:
    home = cached_home(smoke_home.home, tmp_path / "home", mlflow_tables)
    vectors = broken_vectors(tmp_path / "vectors.txt")
    change = f"augment.proposers.vectors={vectors}"
    done = in_own_process("compress", "--recipe", "smoke", "--set", change, home=home)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    record = home / "attempts" / "augment" / "000002.json"
    assert lines[-1].startswith("rosita: stage augment failed in attempt 2 of recipe smoke: ")
    rest = "student, depth, width, assess, export"
    assert f"; its record with the traceback is {record}" in lines[-1]
    assert lines[-1].endswith(f"; not run for want of augment: {rest}")
    assert "Traceback" not in done.stderr
    assert "INFO" not in done.stderr
    written = json.loads(record.read_text(encoding="utf-8"))
    assert written["status"] == "failed"
    assert written["error"] in lines[-1]
    assert written["traceback"][0] == "Traceback (most recent call last):"
    assert any("load_glove_text" in line for line in written["traceback"])
    store = client(home)
    experiment = store.get_experiment_by_name("rosita-smoke")
    found = {run.info.run_name: run for run in store.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in found.items()} == {
        "smoke-kd-4-s42": "FAILED",
        "data": "FINISHED",
        "teacher": "FINISHED",
        "augment": "FAILED",
    }
    assert not (home / "runs").exists()

    vectors.write_text("the 0.1 0.2\nfilm 0.1 0.3\nstory 0.1 0.2\n", encoding="utf-8")
    planned = rosita("plan", "--recipe", "smoke", "--set", change, "--json", home=home)
    states = {stage["name"]: stage["status"] for stage in planned.document["stages"]}
    assert (states["data"], states["teacher"]) == ("cached", "cached")
    assert (states["augment"], states["student"]) == ("to run", "waits")


def test_a_store_of_mlflow_that_does_not_exist(in_own_process: RunRosita, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = in_own_process(
        "compress", "--recipe", "smoke", home=home, env={"MLFLOW_TRACKING_URI": "nonsense://x"}
    )
    assert (done.returncode, done.stdout) == (2, "")
    [said] = done.stderr.strip().splitlines()
    bound = "rosita: MLFLOW_TRACKING_URI must name a store that MLflow knows, got nonsense://x: "
    assert said.startswith(bound)
    assert not (home / "attempts").exists()
