"""`rosita grid --estimate` after a grid has run, where a stage never has, and on an empty home."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from command_line import rosita
from grid_homes import SMOKE, GridHome, everything


def test_estimate_is_the_longer_of_the_path_and_the_shared_work(copied_grid: Path) -> None:
    before = everything(copied_grid)
    longer = (*SMOKE, "--set=width.epochs=3", "--set=kd.cache=none", "--estimate", "--json")
    documents = {}
    for gpus in (1, 2, 16):
        done = rosita(*longer, "--gpus", str(gpus), home=copied_grid)
        assert done.code == 0, done.stderr
        documents[gpus] = done.document
    one, two, many = documents.values()
    total = sum(stage["seconds"] for stage in one["stages"])
    names = Counter(stage["name"] for stage in one["stages"])
    assert names == {"one-step": 2, "width": 2, "assess": 4, "export": 4}
    assert (one["distinct_stages"], one["cached"], one["complete"]) == (21, 9, True)
    assert one["seconds"] == pytest.approx(total)
    assert one["at_least_seconds"] == pytest.approx(total)
    assert [s["name"] for s in one["critical_path"]["stages"]][-2:] == ["assess", "export"]
    path = one["critical_path"]["seconds"]
    assert path == pytest.approx(sum(s["seconds"] for s in one["critical_path"]["stages"]))
    # Four chains of three stages that share nothing.
    assert many["seconds"] == pytest.approx(path)
    assert two["seconds"] == pytest.approx(max(path, total / 2))
    for document in documents.values():
        assert document["gpu_hours"] == pytest.approx(total / 3600)
        assert document["unknown"] == []
    trained = next(stage for stage in one["stages"] if stage["name"] == "width")
    assert trained["seconds"] == pytest.approx(trained["seconds_each"] * trained["units"])
    assert (trained["unit"], trained["estimate"].split()[0]) == ("step", "attempt")
    assert one["measured_on"][0].startswith("cpu: ")

    shown = rosita(*longer[:-1], "--gpus", "2", home=copied_grid).stdout
    assert "critical path:" in shown and "-> assess -> export" in shown
    assert "at the speed of cpu: " in shown and "no GPU has been measured here" in shown
    cached = rosita(*SMOKE, "--estimate", home=copied_grid).stdout
    assert "21 of them cached; nothing to compute." in cached
    assert everything(copied_grid) == before


def test_estimate_with_a_stage_that_never_ran_is_a_lower_bound(
    grid_home: GridHome, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(grid_home.home, home)
    for path in (home / "attempts" / "width").glob("*.json"):
        path.unlink()
    arguments = (*SMOKE, "--set=width.epochs=3", "--set=kd.cache=none", "--estimate", "--gpus", "2")
    cost = rosita(*arguments, "--json", home=home).document
    assert (cost["complete"], cost["seconds"], cost["gpu_hours"]) == (False, None, None)
    why = "width has not run here on this model"
    assert cost["unknown"] == [{"name": "width", "count": 2, "why": why}]
    known = [stage for stage in cost["stages"] if stage["seconds"] is not None]
    assert Counter(s["name"] for s in known) == {"one-step": 2, "assess": 4, "export": 4}
    assert cost["at_least_gpu_hours"] == pytest.approx(sum(s["seconds"] for s in known) / 3600)
    assert cost["at_least_seconds"] > 0
    shown = rosita(*arguments, home=home).stdout
    assert f"unknown:          2 of width: {why}" in shown
    assert "time:             at least" in shown


def test_estimate_of_what_has_never_run_is_unknown_and_mistakes_are_told(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = rosita(*SMOKE, "--estimate", "--json", home=home)
    assert (done.code, done.document["measured_on"]) == (0, [])
    assert done.document["at_least_gpu_hours"] == 0
    assert sum(entry["count"] for entry in done.document["unknown"]) == 21
    for options, said in (
        (("--gpus", "2"), "gpus must be left out unless --estimate is given, got 2"),
        (("--estimate", "--gpus", "0"), "gpus must be in [1, 1,000,000], got 0"),
        (("--estimate", "--gpus", "10000000"), "gpus must be in [1, 1,000,000], got 10000000"),
        (("--estimate", "--plan"), "plan and estimate must not be asked for at once, got both"),
    ):
        wrong = rosita(*SMOKE, *options, home=home)
        assert wrong.code == 2
        assert wrong.stderr.strip() == f"rosita: {said}"
    assert not home.exists()
