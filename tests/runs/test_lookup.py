"""Which model a command means, and what it says of a run that nobody can read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from command_line import rosita
from grid_homes import GridHome
from typed_command import Home

from flows.serving.lookup import newest_summary, run_of
from flows.serving.promotion import best_cell


def unreadable(home: Path, content: bytes) -> Path:
    """The summary of a run newer than all others."""
    path = home / "runs" / "newest" / "summary.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (4e9, 4e9))
    return path


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is not JSON"),
        (b'{"run_id": "half', "it is not JSON"),
        (b"[]", "it is not the summary of a run"),
        (b'{"run_id": "../x", "recipe": "r", "stages": []}', "it is not the summary of a run"),
    ],
)
def test_the_newest_run_that_can_be_read_answers_and_the_others_are_named(
    copied_home: Home, capsys: pytest.CaptureFixture[str], content: bytes, problem: str
) -> None:
    path = unreadable(copied_home.home, content)
    assert newest_summary(copied_home.home).run_id == copied_home.summary["run_id"]
    said = f"{path} cannot be read: {problem}"
    assert capsys.readouterr().err == f"rosita: {said}; its run is left out\n"
    done = rosita("predict", "--model", "newest", "a text", home=copied_home.home)
    assert (done.code, done.stderr) == (2, f"rosita: {said}\n")


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "a text"),
        (*("benchmark", "--repeats", "1", "--warmup", "0"), "--engine=torch-fp32"),
        ("export", "{folder}"),
    ],
)
def test_every_command_does_without_an_empty_summary(
    copied_home: Home, tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = unreadable(copied_home.home, b"")
    args = [part.format(folder=tmp_path / "exported") for part in command]
    done = rosita(*args, home=copied_home.home)
    assert done.code == 0
    assert f"rosita: {path} cannot be read: it is not JSON; its run is left out" in done.stderr


def test_every_id_that_is_printed_means_its_run(copied_home: Home) -> None:
    home, summary = copied_home.home, copied_home.summary
    cell = home / "grids" / "mine" / "0.1-slow-s42.json"
    cell.parent.mkdir(parents=True)
    whole = {"cell": "0.1-slow-s42", "seed": 42, "status": "finished", "recipe": {}}
    cell.write_text(json.dumps(whole | {"run_id": summary["run_id"]}))
    listed = rosita("runs", "--json", home=home).document["runs"]
    [run] = listed
    assert (run["score"], run["shape"]) == (
        summary["student"]["score"],
        summary["student"]["shape"],
    )
    words = (
        *(run["run_id"], run["mlflow_run_id"], run["registered"], run["name"]),
        *("mine/0.1-slow-s42", "models:/rosita-smoke@champion"),
    )
    assert {run_of(word, home).run_id for word in words} == {summary["run_id"]}
    with pytest.raises(ValueError, match=r"^model must be an existing directory, got \./none$"):
        run_of("./none", home)
    with pytest.raises(ValueError, match=r"got models:/rosita-smoke@other; `rosita runs` lists"):
        run_of("models:/rosita-smoke@other", home)


def test_a_model_that_its_gate_kept_out_is_promoted_by_force(copied_home: Home) -> None:
    home, run = copied_home.home, copied_home.summary["run_id"]
    path = home / "runs" / run / "summary.json"
    kept_out = {**copied_home.summary, "gate": {"not_registered": "it is weak"}}
    path.write_text(json.dumps(kept_out | {"registered_model": None}))
    done = rosita("promote", run, home=home)
    assert (done.code, done.stderr) == (
        2,
        f"rosita: {run} must pass the gate of its recipe, got it is weak; see --force\n",
    )
    done = rosita("promote", run, "--force", "--json", home=home)
    assert done.code == 0, done.stderr
    # The same files have a version already.
    assert done.document["registered_model"]["uri"] == "models:/rosita-smoke/1"


@pytest.mark.parametrize(
    "damaged",
    [
        *("{", "[]", '{"status": "finished"}', '{"status": "finished", "cell": "a-s1"}'),
        '{"status": "finished", "cell": "a-s1", "score": null}',
        '{"status": "finished", "cell": "a-s1", "score": NaN}',
    ],
)
def test_a_damaged_cell_is_no_best_one(tmp_path: Path, damaged: str) -> None:
    folder = tmp_path / "grids" / "g1"
    folder.mkdir(parents=True)
    (folder / "a-s1.json").write_text(damaged)
    done = rosita("promote", "g1", home=tmp_path)
    assert done.code == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    said = "rosita: grid g1 must have a finished cell as it is defined now, got none in"
    assert last == f"{said} {folder}; g1/CELL means one of before"
    path = folder / "definition.json"
    path.write_text('{"name": "g1"}')
    done = rosita("report", "--grid", "g1", "--out", str(tmp_path / "out"), home=tmp_path)
    assert done.code == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"rosita: grid must have a definition.json of a grid, got {path}: base")


def test_a_cell_that_a_grid_no_longer_has_is_no_best_one(
    grid_home: GridHome, tmp_path: Path
) -> None:
    for name in ("grids", "runs"):
        shutil.copytree(grid_home.home / name, tmp_path / name)
    assert best_cell("smoke-grid", tmp_path) is not None
    path = tmp_path / "grids" / "smoke-grid" / "definition.json"
    grid = json.loads(path.read_text())
    path.write_text(json.dumps(grid | {"set": {**grid["set"], "width.learning_rate": 0.00012}}))
    with pytest.raises(ValueError, match=r"^grid smoke-grid must have a finished cell as it is"):
        best_cell("smoke-grid", tmp_path)


def test_the_best_cell_is_one_that_passes_the_gate(grid_home: GridHome, tmp_path: Path) -> None:
    for name in ("grids", "runs"):
        shutil.copytree(grid_home.home / name, tmp_path / name)
    paths = [path / "summary.json" for path in (tmp_path / "runs").iterdir()]
    summaries = {path: json.loads(path.read_text()) for path in paths}
    score = {one["run_id"]: one["student"]["score"] for one in summaries.values()}
    cells = [json.loads(path.read_text()) for path in (tmp_path / "grids").rglob("*-s4*.json")]
    runs = {one["run_id"] for one in cells}
    assert len(runs) > 1
    while runs:
        best = best_cell("smoke-grid", tmp_path)
        assert best is not None and best.run_id in runs
        assert score[best.run_id] == max(score[run] for run in runs)
        runs.remove(best.run_id)
        [path] = [path for path, one in summaries.items() if one["run_id"] == best.run_id]
        path.write_text(json.dumps(summaries[path] | {"gate": {"not_registered": "it is weak"}}))
    # Where none does the best of all is told why.
    last = best_cell("smoke-grid", tmp_path)
    assert last is not None and last.gate == {"not_registered": "it is weak"}
    assert score[last.run_id] == max(score[one["run_id"]] for one in cells)


def test_a_run_in_the_folder_of_another_name_hides_no_other(copied_home: Home) -> None:
    home, run = copied_home.home, copied_home.summary["run_id"]
    shutil.copytree(home / "runs" / run, home / "runs" / "old")
    done = rosita("runs", "--json", home=home)
    assert done.code == 0, done.stderr
    assert [one["run_id"] for one in done.document["runs"]] == [run]
    path = home / "runs" / "old" / "summary.json"
    assert f"{path} cannot be read: it is that of run {run}; its run is left out" in done.stderr


def test_a_version_of_a_run_that_only_registered_it_is_found(copied_home: Home) -> None:
    home, run = copied_home.home, copied_home.summary["run_id"]
    path = home / "runs" / run / "summary.json"
    other = {"mlflow_run_id": "0" * 32, "registered_model": None}
    path.write_text(json.dumps(copied_home.summary | other))
    for word in ("models:/rosita-smoke/1", "models:/rosita-smoke@champion"):
        done = rosita("predict", "a text", "--model", word, home=home)
        assert done.code == 0, done.stderr


def test_without_a_run_that_can_be_read_one_has_to_be_made(tmp_path: Path) -> None:
    unreadable(tmp_path, b"")
    done = rosita("predict", "a text", home=tmp_path)
    assert done.code == 2
    assert done.stderr.splitlines()[-1].startswith(
        "rosita: model must be given where no run has finished, got none"
    )


def test_a_damaged_model_answers_nothing(copied_home: Home) -> None:
    home, run = copied_home.home, copied_home.summary["run_id"]
    [export] = [s["artifact"] for s in copied_home.summary["stages"] if s["name"] == "export"]
    path = home / "store" / export / "files" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    done = rosita("predict", "a text", home=home)
    assert done.code == 2
    assert done.stderr == (
        f"rosita: the artifact of stage export of run {run} must be whole in the store, got "
        f"{path.parent}: model.safetensors has changed; `rosita compress --recipe smoke` makes it "
        "again\n"
    )
