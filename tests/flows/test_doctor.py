"""`rosita doctor`: a sound machine passes; each thing that is broken is named."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from command_line import rosita
from prefect.settings import PREFECT_API_URL, temporary_settings
from typed_command import Home, RunRosita

from flows.maintenance import doctor, doctor_home
from flows.maintenance.doctor_services import (
    OK,
    PROBLEM,
    WARNING,
    Check,
    check_hub,
    check_mlflow,
    check_prefect,
)
from tasks.host.liveness import this_process
from tasks.host.network import unreachable


def checks(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Status and detail by the name of the check."""
    rows = document["checks"]
    return {row["name"]: (row["status"], row["detail"]) for row in rows}


def test_a_home_with_a_run_is_sound(smoke_home: Home) -> None:
    done = rosita("doctor", "--json", home=smoke_home.home)
    assert done.code == 0, done.stdout
    assert done.document["ok"] is True
    found = checks(done.document)
    assert PROBLEM not in {status for status, _ in found.values()}
    stored = {stage["artifact"] for stage in smoke_home.summary["stages"]}
    assert found["store"] == (OK, f"{len(stored)} artifacts, all whole")
    assert found["libraries"][0] == OK
    assert "vaderSentiment" in found["film reviews"][1]


def test_looking_at_an_empty_home_makes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "later"
    done = rosita("doctor", home=home)
    assert done.code == 0, done.stdout
    for check in ("python", "torch", "memory", "disk", "hub", "prefect", "mlflow", "store"):
        assert check in done.stdout
    assert not home.exists()


def test_damage_is_a_problem(copied_home: Home, in_own_process: RunRosita) -> None:
    student = copied_home.artifact("export") / "model.safetensors"
    content = bytearray(student.read_bytes())
    content[-1] ^= 1
    student.write_bytes(content)
    (copied_home.home / "mlflow.db").write_bytes(b"no database at all" * 100)
    archive = next((copied_home.home / "downloads").glob("*.tar.gz"))
    archive.write_bytes(b"cut")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/api"
        env = {"PREFECT_API_URL": address}
        done = in_own_process("doctor", "--json", home=copied_home.home, env=env)
    assert done.returncode == 1
    found = checks(json.loads(done.stdout))
    status, detail = found["store"]
    assert status == PROBLEM
    assert "model.safetensors has changed" in detail
    assert found["mlflow"][0] == PROBLEM
    assert found["film reviews"][0] == WARNING
    assert found["prefect"][0] == PROBLEM
    assert address in found["prefect"][1]
    for name in ("store", "mlflow", "prefect"):
        assert name in done.stderr


def test_what_was_left_unfinished(copied_home: Home) -> None:
    home = copied_home.home
    assert doctor_home.check_attempts(home) == Check(
        "attempts", OK, "8 attempts, 0 running, none died unfinished"
    )
    assert doctor_home.check_checkpoints(home).detail == "none: no stage is half done"
    path = home / "attempts" / "width" / "000001.json"
    done = json.loads(path.read_text())
    (home / "checkpoints" / done["key"]).mkdir(parents=True)
    (home / "checkpoints" / ("1" * 64)).mkdir()
    (home / "checkpoints" / ("1" * 64) / "model").write_bytes(b"x" * 2000)
    found = doctor_home.check_checkpoints(home)
    assert found.detail == (
        "1 unfinished stage, 2.0 kB; 1 finished stage as well, which `rosita gc` frees"
    )
    running = done | {"status": "running", **this_process()}
    died = running | {"process_started": -1.0}
    # Somebody completed the stage of this key all the same.
    path.with_name("000002.json").write_text(json.dumps(died))
    path.with_name("000003.json").write_text(json.dumps(running))
    assert doctor_home.check_attempts(home).detail.startswith("10 attempts, 1 running")
    path.with_name("000004.json").write_text(json.dumps(died | {"key": "1" * 64}))
    found = doctor_home.check_attempts(home)
    assert found.status == WARNING
    assert found.detail.startswith("died: width 4 of recipe smoke;")
    path.with_name("000005.json").write_text("half a rec")
    assert doctor_home.check_attempts(home).detail == (
        f"{found.detail}; cannot be read and are left out: attempts/width/000005.json"
    )
    path.with_name("000004.json").unlink()
    found = doctor_home.check_attempts(home)
    assert found.status == WARNING
    assert found.detail == "cannot be read and are left out: attempts/width/000005.json"
    # The last rerun has not completed, so that its checkpoints are of use.
    assert doctor_home.check_checkpoints(home).detail.startswith("2 unfinished stages")
    (home / "results" / done["key"]).write_text("half a rec")
    path.with_name("000003.json").unlink()
    assert doctor_home.check_attempts(home).detail.startswith("died: width 2 of recipe smoke;")


def test_room_for_the_shipped_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_home.check_disk(tmp_path).status == OK
    demo, paper = (doctor_home.recipe_bytes(name) for name in ("demo", "paper-sst2"))
    assert demo < paper
    for free, status, model in ((demo, WARNING, "bert-base"), (demo - 1, PROBLEM, "minilm-l6")):
        monkeypatch.setattr(doctor_home, "free_bytes", lambda path, free=free: free)
        found = doctor_home.check_disk(tmp_path)
        assert found.status == status
        assert model in found.detail


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.write_text("", encoding="utf-8")
    assert doctor_home.check_home(home).status == PROBLEM
    assert doctor_home.check_home(home / "below").status == PROBLEM


def test_the_installed_versions_are_those_that_are_required() -> None:
    assert doctor.check_libraries().status == OK
    assert doctor.check_python().status == OK


def test_a_database_named_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///here.db")
    assert check_mlflow(tmp_path).status == OK
    (tmp_path / "here.db").write_bytes(b"no database at all" * 100)
    found = check_mlflow(tmp_path)
    assert found.status == PROBLEM
    assert str(tmp_path / "here.db") in found.detail


def test_silence_is_no_answer() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        problem = unreachable(f"http://127.0.0.1:{silent.getsockname()[1]}/", (200,))
    assert problem is not None


def test_no_password_of_an_address_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://ann:s3cret@127.0.0.1:9")
    with temporary_settings({PREFECT_API_URL: "http://ann:s3cret@127.0.0.1:9/api"}):
        for found in (check_hub(), check_prefect()):
            assert "http://127.0.0.1:9" in found.detail
            assert "s3cret" not in found.detail
