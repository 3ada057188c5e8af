"""`rosita doctor`: a sound machine passes; each thing that is broken is named."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from typed_command import Home

from flows import doctor
from flows.doctor_findings import OK, PROBLEM, WARNING
from flows.doctor_services import check_mlflow, unreachable


def checks(done: CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """Status and detail by the name of the check."""
    rows = json.loads(done.stdout)["checks"]
    return {row["name"]: (row["status"], row["detail"]) for row in rows}


def test_a_home_with_a_run_is_sound(smoke_home: Home) -> None:
    done = smoke_home.run("doctor", "--json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["ok"] is True
    found = checks(done)
    assert PROBLEM not in {status for status, _ in found.values()}
    stored = {stage["artifact"] for stage in smoke_home.summary["stages"]}
    assert found["store"] == (OK, f"{len(stored)} artifacts, all whole")
    assert found["libraries"][0] == OK
    assert "vaderSentiment" in found["film reviews"][1]


def test_looking_at_an_empty_home_makes_nothing(
    rosita: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    home = tmp_path / "later"
    done = rosita("doctor", home=home)
    assert done.returncode == 0, done.stdout
    for check in ("python", "torch", "memory", "disk", "hub", "prefect", "mlflow", "store"):
        assert check in done.stdout
    assert not home.exists()


def test_damage_is_a_problem(copied_home: Home) -> None:
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
        done = copied_home.run("doctor", "--json", env={"PREFECT_API_URL": address})
    assert done.returncode == 1
    found = checks(done)
    status, detail = found["store"]
    assert status == PROBLEM
    assert "model.safetensors has changed" in detail
    assert found["mlflow"][0] == PROBLEM
    assert found["film reviews"][0] == WARNING
    assert found["prefect"][0] == PROBLEM
    assert address in found["prefect"][1]
    for name in ("store", "mlflow", "prefect"):
        assert name in done.stderr


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.write_text("", encoding="utf-8")
    assert doctor.check_home(home).status == PROBLEM
    assert doctor.check_home(home / "below").status == PROBLEM


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
