"""`rosita plan` says what would run and why, and writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from command_line import rosita

NAMES = ["data", "teacher", "augment", "student", "depth", "width", "assess", "export"]


def planned(home: Path, *changes: str, recipe: str = "smoke") -> dict[str, dict[str, Any]]:
    sets = [part for change in changes for part in ("--set", change)]
    done = rosita("plan", "--recipe", recipe, *sets, "--json", home=home)
    assert done.code == 0, done.stderr
    assert done.document["recipe"] == recipe
    return {stage["name"]: stage for stage in done.document["stages"]}


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below `folder` with its size and time of change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def test_stages_of_a_home_in_which_nothing_ran(tmp_path: Path) -> None:
    stages = planned(tmp_path / "home")
    assert list(stages) == NAMES
    assert (stages["data"]["status"], stages["data"]["reason"]) == ("to run", "never run")
    assert len(stages["data"]["key"]) == 64
    for name in NAMES[1:]:
        assert (stages[name]["status"], stages[name]["key"]) == ("waits", None)
    assert stages["width"]["reason"] == "its key follows from data, augment, depth"
    assert not (tmp_path / "home").exists()


def test_stages_that_ran_are_cached(smoke_home: Any) -> None:
    before = everything(smoke_home.home)
    stages = planned(smoke_home.home)
    ran = {stage["name"]: stage for stage in smoke_home.summary["stages"]}
    assert list(stages) == list(ran) == NAMES
    for name, stage in stages.items():
        assert (stage["status"], stage["reason"]) == ("cached", "")
        assert stage["key"] == ran[name]["key"]
        assert stage["seconds"] == ran[name]["seconds"]
    assert everything(smoke_home.home) == before


def test_reason_names_the_field_and_both_values(smoke_home: Any) -> None:
    before = everything(smoke_home.home)
    stages = planned(smoke_home.home, "width.keep_heads=1", "width.learning_rate=2e-3")
    assert {name: stage["status"] for name, stage in stages.items()} == (
        dict.fromkeys(NAMES[:5], "cached")
        | {"width": "to run", "assess": "waits", "export": "waits"}
    )
    assert stages["width"]["reason"] == (
        "differs from the last attempt: config.keep_heads 2 -> 1; config.prune_steps 2 -> 3; "
        "config.training.learning_rate 0.001 -> 0.002"
    )
    assert everything(smoke_home.home) == before


def test_a_change_that_cannot_change_the_result_changes_no_key(smoke_home: Any) -> None:
    changes = ("name=other", "checkpoint.every_seconds=1", "numerics.threads=1")
    sets = [part for change in changes for part in ("--set", change)]
    done = rosita("plan", "--recipe", "smoke", *sets, "--json", home=smoke_home.home)
    assert done.document["recipe"] == "other"
    assert {stage["status"] for stage in done.document["stages"]} == {"cached"}


def test_stage_whose_artifact_is_damaged_runs_again(copied_home: Any) -> None:
    artifact = next(s["artifact"] for s in copied_home.summary["stages"] if s["name"] == "depth")
    weights = copied_home.home / "store" / artifact / "files" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    stages = planned(copied_home.home)
    assert stages["depth"]["status"] == "to run"
    assert stages["depth"]["reason"] == (f"artifact {artifact[:12]}: model.safetensors has changed")
    assert stages["student"]["status"] == "cached"
    assert stages["width"]["status"] == "waits"


def test_other_kd_settings_have_other_stages(smoke_home: Any) -> None:
    expected = {
        "none": ["data", "teacher", "one-step", "assess", "export"],
        "1": ["data", "teacher", "augment", "one-step", "assess", "export"],
        "2": ["data", "teacher", "augment", "student", "one-step", "assess", "export"],
        "3": ["data", "teacher", "augment", "student", "width", "assess", "export"],
    }
    for setting, names in expected.items():
        stages = planned(smoke_home.home, f"kd_setting={setting}")
        assert list(stages) == names
        shared = set(names) & {"data", "teacher", "augment", "student"}
        assert all(stages[name]["status"] == "cached" for name in shared)


def test_table_for_people(smoke_home: Any) -> None:
    done = rosita("plan", "--recipe", "smoke", home=smoke_home.home)
    assert done.code == 0, done.stderr
    for name in NAMES:
        assert name in done.stdout
    assert "a4_l4_f128_e32 -> a2_l2_f32_e8" in done.stdout
