"""`rosita grid` on real homes: shared stages once, kills, failures, processes."""

from __future__ import annotations

import json
import signal
import socket
from collections import Counter
from pathlib import Path

import pytest
from broken_vectors import broken_vectors
from command_line import rosita
from grid_homes import CELLS, SMOKE, GridHome, grid_file, keys, made

from flows.grids.files import read_cell
from flows.grids.records import collect

pytestmark = pytest.mark.usefixtures("in_prefect")


def test_killed_and_called_again_computes_only_the_rest(grid_home: GridHome) -> None:
    assert grid_home.killed.returncode == -signal.SIGKILL
    done = [r for r in grid_home.left if r["status"] == "completed"]
    stopped = [r for r in grid_home.left if r["status"] != "completed"]
    assert Counter(r["stage"] for r in done) == dict.fromkeys(
        ("data", "teacher", "augment", "student", "depth", "one-step", "assess", "export"), 1
    )
    assert [(r["stage"], r["status"]) for r in stopped] == [("width", "running")]

    said = grid_home.finished.stderr
    assert "cell 1/4 1-s42: finished in" in said
    assert "6 of 6 stages cached" in said
    found = made(grid_home.home)
    again = [r for r in found if r.get("resumed_from") is not None]
    assert [(r["stage"], r["number"]) for r in again] == [("width", 2)]
    assert Counter(r["status"] for r in found) == {"completed": 21, "running": 1}


def test_distinct_stages_run_once(grid_home: GridHome) -> None:
    document = grid_home.finished.document
    assert [cell["cell"] for cell in document["cells"]] == CELLS
    assert {cell["status"] for cell in document["cells"]} == {"finished"}
    completed = [r["key"] for r in made(grid_home.home) if r["status"] == "completed"]
    assert sorted(completed) == sorted(keys(document))
    assert document["stages"]["distinct"] == len(completed) == 21


def test_second_call_computes_nothing(grid_home: GridHome, copied_grid: Path) -> None:
    before = made(copied_grid)
    done = rosita(*SMOKE, home=copied_grid)
    assert done.code == 0, done.stderr
    assert done.stderr.startswith(
        "smoke-grid: 4 cells, 21 distinct stages, 21 of them cached; nothing to compute\n"
    )
    assert "0 stages computed, 21 needed by the cells." in done.stdout
    assert made(copied_grid) == before
    for cell in grid_home.finished.document["cells"]:
        assert cell["cell"] in done.stdout
        again = read_cell(copied_grid, "smoke-grid", cell["cell"])
        assert again is not None
        assert again["run_id"] != cell["run_id"]
        assert again["score"] == cell["score"]
        assert all(stage["cached"] for stage in again["stages"])


def test_failed_cell_stops_no_other(copied_grid: Path, tmp_path: Path) -> None:
    vectors = broken_vectors(tmp_path / "vectors.txt")
    axes = {
        "vectors": {
            "bad": {"augment.proposers.vectors": str(vectors)},
            "good": {},
        }
    }
    path = grid_file(tmp_path, axes, [42])
    done = rosita("grid", "--grid", path, "--set=kd_setting=1", "--json", home=copied_grid)
    assert done.code == 1
    bad, good = done.document["cells"]
    assert (bad["cell"], bad["status"]) == ("bad-s42", "failed")
    assert "stage augment failed in attempt" in bad["error"]
    assert (good["cell"], good["status"]) == ("good-s42", "finished")
    assert done.document["stages"]["computed"] == 0
    last = done.stderr.splitlines()[-1]
    assert last.startswith("rosita: 1 of 2 cells of grid mine failed, first bad-s42: stage augment")
    assert "cell 1/2 bad-s42: failed: stage augment" in done.stderr

    records = collect(copied_grid, "mine")
    assert list(records.cells["cell"]) == ["mine/good-s42"]
    assert list(records.grid["missing"]) == ["mine/bad-s42"]
    assert set(records.grid["recipes"]) == {"mine/good-s42", "mine/bad-s42"}
    assert str(tmp_path) not in json.dumps(records.grid)

    vectors.write_text("the 0.1 0.2\nfilm 0.1 0.3\nstory 0.1 0.2\n", encoding="utf-8")
    again = rosita(
        "grid", "--grid", path, "--set=kd_setting=1", "--only", "bad", "--json", home=copied_grid
    )
    assert again.code == 0, again.stderr
    assert again.document["stages"] == {"distinct": 6, "computed": 4}
    assert collect(copied_grid, "mine").grid["missing"] == {}


def test_a_grid_whose_cluster_is_away_is_not_remembered(tmp_path: Path) -> None:
    """Nothing of it has run, and a report of the one before would have nothing to say."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    done = rosita(*SMOKE, "--cluster", address, home=tmp_path)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("rosita: cluster must ")
    assert not (tmp_path / "grids").exists()
