"""What a grid that has run leaves: its cells, their records and what the next plan knows."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from command_line import rosita
from grid_homes import CELLS, SMOKE, GridHome, everything

from flows.grids.files import read_cell
from flows.grids.records import TABLES, collect, load, save, without_places
from rosita_core.compression.prune_record import from_json
from rosita_core.measuring.assessment import read_assessment
from tasks.cache.records import attempts
from tasks.store.artifacts import Store


def test_records_are_what_the_runs_measured(grid_home: GridHome, tmp_path: Path) -> None:
    home = grid_home.home
    records = collect(home, "smoke-grid")
    save(records, tmp_path / "records")
    kept = load(tmp_path / "records")
    assert kept.grid == records.grid
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(kept, name), getattr(records, name))
    assert sum(path.stat().st_size for path in (tmp_path / "records").iterdir()) < 200_000

    document = grid_home.finished.document
    cells = kept.cells.set_index("cell")
    assert sorted(cells.index) == sorted(f"smoke-grid/{cell}" for cell in CELLS)
    known = set(cells.index)
    for cell in document["cells"]:
        name = f"smoke-grid/{cell['cell']}"
        row = cells.loc[name]
        path = home / "runs" / cell["run_id"] / "summary.json"
        summary = json.loads(path.read_text(encoding="utf-8"))
        assert row["score"] == row["metric.accuracy"] == summary["student"]["score"]
        assert row["axis.kd_setting"] == row["kd_setting"] == cell["labels"]["kd_setting"]
        assert row["params"] == summary["student"]["params"]
        assert row["teacher_latency_ms_p50_b32"] == summary["teacher"]["latency_ms_p50_b32"]
        mine = kept.predictions[kept.predictions["cell"] == name]
        assert (mine["label"] == mine["prediction"]).mean() == pytest.approx(row["score"])
        stages = kept.stages[kept.stages["cell"] == name].set_index("stage")
        assert dict(stages["key"]) == {s["name"]: s["key"] for s in cell["stages"]}
        teacher = row["taught_by"]
        tokens = kept.grid["recipes"][name]["width"]["max_length"]
        assert teacher == f"teacher:{stages.loc['teacher', 'key']}@{tokens}"
        known.add(teacher)
        theirs = kept.predictions[kept.predictions["cell"] == teacher]
        right = (theirs["label"] == theirs["prediction"]).mean()
        assert right == pytest.approx(row["teacher_score"])
        assessed = read_assessment(Store(home).path(stages.loc["assess", "artifact"]))
        assert len(mine) == len(theirs) == len(assessed.labels["dev"])
    assert set(kept.predictions["cell"]) == known

    for key, curve in kept.curves.groupby("key"):
        (stage,) = set(curve["stage"])
        assert stage in ("teacher", "student", "depth", "width", "one-step")
        loss = curve[curve["name"] == "train/loss"]
        assert loss["step"].is_monotonic_increasing
        assert loss["step"].is_unique, key
        assert loss["value"].notna().all()
    # The stage that was killed has its whole curve.
    widths = kept.curves[(kept.curves["stage"] == "width") & (kept.curves["name"] == "train/loss")]
    assert widths.groupby("key")["step"].max().nunique() == 1
    pruned = [from_json([json.loads(text)])[0] for text in kept.prunes["record"]]
    assert {record.shape for record in pruned} >= {"a2_l2_f32_e8"}
    assert set(kept.prunes["stage"]) == {"depth", "width", "one-step"}
    assert str(home) not in (tmp_path / "records" / "grid.json").read_text(encoding="utf-8")


def test_records_that_cannot_be_had(grid_home: GridHome, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"grid must be one that has run in .* \(smoke-grid\)"):
        collect(grid_home.home, "other")
    with pytest.raises(ValueError, match=r"records must hold cells\.parquet, got none in"):
        load(tmp_path)


def test_cells_that_cannot_be_read_are_missing_and_say_why(
    grid_home: GridHome, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    for name in ("grids", "runs", "store", "attempts"):
        shutil.copytree(grid_home.home / name, home / name)
    documents = {cell["cell"]: cell for cell in grid_home.finished.document["cells"]}
    whole, unread, damaged, forgotten = CELLS
    (home / "runs" / documents[unread]["run_id"] / "summary.json").write_bytes(b"")
    [assessed] = [s["artifact"] for s in documents[damaged]["stages"] if s["name"] == "assess"]
    spoilt = next((home / "store" / assessed / "files").glob("*"))
    spoilt.chmod(0o644)
    spoilt.write_bytes(b"")
    (home / "grids" / "smoke-grid" / f"{forgotten}.json").write_bytes(b"{")
    records = collect(home, "smoke-grid")
    assert list(records.cells["cell"]) == [f"smoke-grid/{whole}"]
    missing = records.grid["missing"]
    assert missing[f"smoke-grid/{unread}"] == "the summary of its run cannot be read"
    assert missing[f"smoke-grid/{damaged}"].startswith("its assessment is damaged: ")
    assert missing[f"smoke-grid/{forgotten}"] == "has not run"


def test_a_changed_grid_leaves_out_what_it_measured_before(
    grid_home: GridHome, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(grid_home.home / "grids", home / "grids")
    path = home / "grids" / "smoke-grid" / "definition.json"
    definition = json.loads(path.read_text(encoding="utf-8"))
    definition["set"]["width.epochs"] = 2
    path.write_text(json.dumps(definition), encoding="utf-8")
    with pytest.raises(ValueError, match="grid must have a finished cell to be recorded"):
        collect(home, "smoke-grid")


def test_cells_are_remembered(grid_home: GridHome) -> None:
    for cell in grid_home.finished.document["cells"]:
        document = read_cell(grid_home.home, "smoke-grid", cell["cell"])
        assert document is not None
        assert document["status"] == "finished"
        assert document["run_id"] == cell["run_id"]
        assert document["recipe"]["kd_setting"] == cell["labels"]["kd_setting"]
        assert document["versions"]["torch"]
        for stage in document["stages"]:
            assert Store(grid_home.home).verify(stage["artifact"]) is None
            assert set(stage) == {"name", "key", "artifact", "seconds", "attempt", "cached"}
    files = {path.name for path in (grid_home.home / "grids" / "smoke-grid").iterdir()}
    assert files == {"definition.json", *(f"{cell}.json" for cell in CELLS)}


def test_plan_estimates_from_attempts_and_writes_nothing(copied_grid: Path) -> None:
    before = everything(copied_grid)
    longer = ("--set=width.epochs=3", "--set=kd.cache=none", "--plan", "--json")
    done = rosita(*SMOKE, *longer, home=copied_grid)
    assert done.code == 0, done.stderr
    plan = done.document
    missing = {stage["id"]: stage for stage in plan["stages"] if stage["status"] != "cached"}
    names = Counter(stage["name"] for stage in missing.values())
    assert names == {"one-step": 2, "width": 2, "assess": 4, "export": 4}
    assert (plan["distinct_stages"], plan["cached"]) == (21, 9)
    assert plan["stages_without_estimate"] == 0
    assert plan["seconds"] == pytest.approx(sum(s["seconds"] for s in missing.values()))
    records = {r["number"]: r for r in attempts(copied_grid, "width") if "result" in r}
    for stage in missing.values():
        if stage["name"] == "width":
            assert stage["estimate"].startswith("attempt ")
            number = int(stage["estimate"].split()[1])
            result = records[number]["result"]
            # Three times the epochs.
            steps = 3 * result["metrics"]["steps"]
            assert stage["seconds"] == pytest.approx(
                result["seconds"] / result["metrics"]["steps"] * steps, rel=0.1
            )
    shown = rosita(*SMOKE, *longer[:3], "--max-cells", "1", home=copied_grid)
    assert "1 cells, 6 distinct stages, 3 of them cached; about" in shown.stdout
    assert everything(copied_grid) == before


def test_plan_names_what_it_cannot_estimate(copied_grid: Path) -> None:
    """Three passes ask for a teacher that is kept, which no run of this home has done."""
    done = rosita(*SMOKE, "--set=width.epochs=3", "--plan", "--json", home=copied_grid)
    assert done.code == 0, done.stderr
    stages = done.document["stages"]
    unknown = Counter(stage["name"] for stage in stages if stage["seconds"] is None)
    missing = Counter(stage["name"] for stage in stages if stage["status"] != "cached")
    kept = {"one-step-targets": 2, "width-targets": 2}
    assert missing == Counter({"one-step": 2, "width": 2, "assess": 4, "export": 4} | kept)
    assert done.document["stages_without_estimate"] == 4
    assert {name: unknown[name] for name in missing if unknown[name]} == kept


def test_plan_of_what_has_never_run_says_unknown(tmp_path: Path) -> None:
    done = rosita("grid", "--grid", "smoke-grid", "--plan", "--json", home=tmp_path / "home")
    assert done.document["seconds"] is None
    assert done.document["stages_without_estimate"] == done.document["distinct_stages"] == 21
    assert not (tmp_path / "home").exists()


def test_no_place_of_the_machine_is_named_whatever_is_in_it() -> None:
    told = {
        "data": {"train": "/home/Jane Doe/my data/x.csv", "path": None},
        "missing": {
            "a": "failed: [Errno 2] No such file: '/home/Jane Doe/my data/x.csv' (or /b/c)"
        },
        "hardware": {"cpu": "AMD EPYC / Intel"},
        "url": "http://127.0.0.1:9/a/b",
    }
    # As in a container whose user has no home.
    assert without_places(told, "/") == without_places(told)
    assert without_places(told) == {
        "data": {"train": "x.csv", "path": None},
        "missing": {"a": "failed: [Errno 2] No such file: 'x.csv' (or c)"},
        "hardware": {"cpu": "AMD EPYC / Intel"},
        "url": "http://127.0.0.1:9/a/b",
    }
