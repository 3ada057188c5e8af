"""`rosita plan` says what would run and why, and writes nothing."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import csv_file, recipe_file, rosita

from tasks.host.wording import duration
from tasks.store.json_files import sealed

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
    assert stages["width"]["reason"] == "waits for depth, because data will run"
    assert stages["width"]["waits_for"] == ["depth"]
    assert not (tmp_path / "home").exists()


def test_stages_that_ran_are_cached(copied_home: Any) -> None:
    before = everything(copied_home.home)
    stages = planned(copied_home.home)
    ran = {stage["name"]: stage for stage in copied_home.summary["stages"]}
    assert list(stages) == list(ran) == NAMES
    for name, stage in stages.items():
        assert (stage["status"], stage["reason"]) == ("cached", "")
        assert stage["key"] == ran[name]["key"]
        assert stage["seconds"] == ran[name]["seconds"]
    assert everything(copied_home.home) == before


def test_reason_names_the_field_and_both_values(copied_home: Any) -> None:
    before = everything(copied_home.home)
    stages = planned(copied_home.home, "width.keep_heads=1", "width.learning_rate=2e-3")
    assert {name: stage["status"] for name, stage in stages.items()} == (
        dict.fromkeys(NAMES[:5], "cached")
        | {"width": "to run", "assess": "waits", "export": "waits"}
    )
    assert stages["width"]["reason"] == (
        "differs from attempt 1: config.keep_heads 2 -> 1; config.prune_steps 2 -> 3; "
        "config.training.learning_rate 0.001 -> 0.002"
    )
    assert stages["export"]["reason"] == "waits for assess, because width will run"
    assert everything(copied_home.home) == before


def test_a_stage_that_waits_says_what_differs_already(smoke_home: Any) -> None:
    stages = planned(smoke_home.home, "student.learning_rate=2e-3", "width.keep_heads=1")
    assert stages["student"]["status"] == "to run"
    assert stages["depth"]["reason"] == "waits for student"
    assert stages["width"]["reason"] == (
        "waits for depth, because student will run; "
        "differs from attempt 1: config.keep_heads 2 -> 1; config.prune_steps 2 -> 3"
    )


def test_a_model_of_the_hub_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A listening socket in the hub's place would hear of any attempt.
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    with socket.socket() as hub:
        hub.bind(("127.0.0.1", 0))
        hub.listen()
        hub.setblocking(False)
        address = f"http://127.0.0.1:{hub.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        for model in ("bert-base", "someone/some-bert"):
            done = rosita(
                "plan", "--recipe", "smoke", "--set", f"teacher.model={model}",
                home=tmp_path / "home",
            )  # fmt: skip
            assert done.code == 2
            assert done.stderr.count("\n") == 1
            assert "on this machine already" in done.stderr
            assert "teacher.model" in done.stderr
        with pytest.raises(BlockingIOError):
            hub.accept()
    assert not cache.exists()
    assert not (tmp_path / "home").exists()


def test_damaged_download_is_not_fetched_again(copied_home: Any) -> None:
    archive = next((copied_home.home / "downloads").glob("*.tar.gz"))
    archive.write_bytes(b"cut")
    before = everything(copied_home.home)
    stages = planned(copied_home.home, "data.limit_rows=200")
    assert stages["data"]["status"] == "to run"
    assert everything(copied_home.home) == before


def test_an_attempt_that_died_is_named(copied_home: Any) -> None:
    path = copied_home.home / "attempts" / "width" / "000001.json"
    made = json.loads(path.read_text())
    key = planned(copied_home.home, "width.keep_heads=1")["width"]["key"]
    died = made | {"key": key, "status": "running", "process_started": -1.0}
    path.with_name("000002.json").write_text(json.dumps(died))
    checkpoint = copied_home.home / "checkpoints" / key / "00000001"
    checkpoint.mkdir(parents=True)
    about = {"stage": "width", "unit": 1200, "total": 3000, "seconds": 5.0, "again": False}
    (checkpoint / "about.json").write_bytes(sealed(about))
    reason = planned(copied_home.home, "width.keep_heads=1")["width"]["reason"]
    assert reason.endswith("; attempt 2 died; it goes on from its checkpoint at 1,200 of 3,000")


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
    assert "8 cached, 0 to run." in done.stdout


def test_rows_that_train_and_dev_share_are_counted(tmp_path: Path) -> None:
    rows = [f"film number {i},{i % 2}" for i in range(40)]
    train = csv_file(tmp_path / "rows.csv", "text,label", rows)
    data = {"source": "files", "train": train, "dev": train, "limit_rows": None}
    recipe = recipe_file(tmp_path, {"base": "smoke", "task": "custom", "data": data})
    done = rosita("plan", "--recipe", recipe, home=tmp_path / "home")
    assert done.code == 0, done.stderr
    assert "36 of 40 dev rows have a text that is in train, too." in done.stdout
    assert "4 of 40 dev rows have a text that chooses checkpoints, too." in done.stdout
    rows = rosita("plan", "--recipe", recipe, "--json", home=tmp_path / "home").document["rows"]
    assert (rows["train"], rows["dev"], rows["dev_in_train"]) == (36, 40, 36)
    assert not (tmp_path / "home").exists()


def test_a_folder_with_splits_is_train_and_dev(tmp_path: Path) -> None:
    for split, first, last in (("train", 0, 40), ("validation", 40, 46), ("test", 46, 50)):
        rows = [{"text": f"film number {i}", "label": i % 2} for i in range(first, last)]
        pd.DataFrame(rows).to_parquet(tmp_path / f"{split}-00000-of-00001.parquet")
    data = {"source": "files", "train": str(tmp_path), "dev": str(tmp_path), "limit_rows": None}
    recipe = recipe_file(tmp_path, {"base": "smoke", "task": "custom", "data": data})
    rows = rosita("plan", "--recipe", recipe, "--json", home=tmp_path / "home").document["rows"]
    assert (rows["train"] + rows["select"], rows["dev"], rows["dev_in_train"]) == (40, 6, 0)


def test_rows_are_counted_as_the_data_stage_did(smoke_home: Any) -> None:
    done = rosita("plan", "--recipe", "smoke", "--json", home=smoke_home.home)
    assert done.document["rows"] == smoke_home.summary["rows"]
    assert done.document["rows"]["dev_in_train"] == 0


def test_how_much_there_is_to_do(smoke_home: Any) -> None:
    done = rosita("plan", "--recipe", "smoke", "--set", "seed=1", "--json", home=smoke_home.home)
    ran = {stage["name"]: stage["seconds"] for stage in smoke_home.summary["stages"]}
    planned = {stage["name"]: stage["estimated_seconds"] for stage in done.document["stages"]}
    # How many variants there will be is not known: at most as many as rows.
    for name, seconds in planned.items():
        assert name == "data" or 0.9 * ran[name] <= seconds <= 1.3 * ran[name]
    shown = rosita("plan", "--recipe", "smoke", "--set", "seed=1", home=smoke_home.home).stdout
    total = duration(sum(seconds for seconds in planned.values() if seconds))
    assert f"1 cached, 7 to run: about {total} by attempts on the same model." in shown


def test_what_another_model_took_says_nothing(smoke_home: Any) -> None:
    changes = ("--set", "teacher.model=minilm-l6", "--set", "width.batch_size=4")
    document = rosita("plan", "-r", "smoke", *changes, "--json", home=smoke_home.home).document
    known = {s["name"]: s["estimated_seconds"] for s in document["stages"]}
    assert {name for name, seconds in known.items() if seconds is not None} <= {"augment"}
