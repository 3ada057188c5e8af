"""Machines that share a home: each SQLite file of it has writers on one of them at a time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow_server import MlflowServer
from recorded_runs import (
    begin,
    check_complete,
    empty,
    end,
    in_another_process,
    learn,
    now,
    synced,
)

from flows.services.servers import prefect_server
from tasks.home import Home
from tasks.host.one_machine import LOCK, MACHINE_VARIABLE, other_writer, writer_for_now
from tasks.tracking.abandoned import journal, waiting
from tasks.tracking.background import NotYet
from tasks.tracking.mirror import Mirror
from tasks.tracking.runs import Tracking
from tasks.tracking.sync import sync

WRITES = """
import sys
from pathlib import Path
from tasks.host.one_machine import other_writer

print([other_writer(Path(folder)) for folder in sys.argv[1:]], flush=True)
sys.stdin.read()
"""

COMPRESS = ("compress", "--recipe", "smoke")


@contextmanager
def another_machine(*folders: Path, name: str = "b") -> Iterator[subprocess.Popen[str]]:
    """A process of another machine that writes databases in folders, as long as the block runs."""
    environment = {**os.environ, MACHINE_VARIABLE: name}
    command = [sys.executable, "-c", WRITES, *map(str, folders)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{[None] * len(folders)}\n"
        try:
            yield process
        finally:
            process.kill()


def record_on_b(home: Path, checkpoint: Path) -> None:
    """A run on the second machine, which is killed before the server hears of it."""

    def later(mirror: Mirror, run: str) -> None:
        raise NotYet

    os.environ[MACHINE_VARIABLE] = "b"
    Mirror.send = later  # type: ignore[method-assign]
    tracking, parent, child = begin(home)
    learn(tracking, child)
    end(tracking, home, parent, child, checkpoint, "c" * 64)
    assert tracking._recording.recorder.thread.flush(60)
    assert journal(home) == Home(home).journal(2)
    os.kill(os.getpid(), signal.SIGKILL)


def test_one_machine_at_a_time_and_any_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert other_writer(tmp_path, keep=False) is None
    assert not (tmp_path / LOCK).exists()
    with another_machine(tmp_path), another_machine(tmp_path):
        host = json.loads((tmp_path / LOCK).read_text())["host"]
        assert other_writer(tmp_path) == host
        monkeypatch.setenv(MACHINE_VARIABLE, "b")
        assert other_writer(tmp_path, keep=False) is None
        monkeypatch.delenv(MACHINE_VARIABLE)
    assert other_writer(tmp_path) is None
    monkeypatch.setenv(MACHINE_VARIABLE, "b")
    with pytest.raises(AssertionError), another_machine(tmp_path, name="c"):
        pass


def test_who_looks_after_the_runs_of_others_gives_their_place_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writer_for_now(tmp_path) as other:
        assert other is None
        with pytest.raises(AssertionError), another_machine(tmp_path):
            pass
    with another_machine(tmp_path), writer_for_now(tmp_path) as other:
        assert other == socket.gethostname()
    # What the process has taken before, or takes meanwhile, stays its own.
    with writer_for_now(tmp_path) as other:
        assert (other, other_writer(tmp_path)) == (None, None)
    with writer_for_now(tmp_path) as other:
        assert other is None
    with pytest.raises(AssertionError), another_machine(tmp_path):
        pass


def test_machines_that_take_turns_make_no_more_journals(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first looks after what the second has left, which then comes back to its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    Home(home).journal(2).mkdir(parents=True)
    Tracking(home)
    assert sync(home).elsewhere == ()
    with another_machine(Home(home).journal(2)):
        assert len(sync(home).elsewhere) == 1


def test_a_file_that_two_homes_record_in_has_one_machine(
    home: Path, tmp_path: Path, mlflow_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared" / "mlflow.db"
    shared.parent.mkdir()
    shutil.copy(mlflow_tables, shared)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}")
    with another_machine(shared.parent):
        with pytest.raises(ValueError, match=r"^MLFLOW_TRACKING_URI must name one server for all"):
            Tracking(home)
        with pytest.raises(ValueError, match=r"^MLFLOW_TRACKING_URI must name one server for all"):
            Mirror(home, f"sqlite:///{shared}").send("a")
    Tracking(home)


def test_without_a_server_the_second_machine_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with another_machine(home):
        before = (home / "mlflow.db").read_bytes()
        with pytest.raises(ValueError, match=r"^MLFLOW_TRACKING_URI must name a server \(http"):
            Tracking(home)
        done = subprocess.run(
            [sys.executable, "-c", "from flows.cli import main; main()", *COMPRESS],
            env={**os.environ, "ROSITA_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        [line] = done.stderr.splitlines()
        assert "MLFLOW_TRACKING_URI must name a server (http or https)" in line
        assert (home / "mlflow.db").read_bytes() == before
        assert not (home / "journals").exists()
    Tracking(home)


@pytest.mark.usefixtures("told")
def test_with_a_server_it_has_a_journal_of_its_own(
    server: MlflowServer, home: Path, checkpoint: Path, mlflow_tables: Path
) -> None:
    since = now()
    second = Home(home).journal(2)
    second.mkdir(parents=True)
    shutil.copy(mlflow_tables, second / "mlflow.db")
    with another_machine(home, name="a"):
        before = (home / "mlflow.db").read_bytes()
        assert in_another_process(record_on_b, home, checkpoint) == -signal.SIGKILL
        assert (home / "mlflow.db").read_bytes() == before
        with sqlite3.connect(second / "mlflow.db") as database:
            [[count]] = database.execute("select count(*) from runs").fetchall()
        assert count == 2
        # What b left waits, and a third machine sends it while the first still records.
        assert waiting(home) == 2
        assert len(synced(home)["elsewhere"]) == 1
    whole = check_complete(server, since)
    assert whole["demo"]["files"] == ["recipe.json", "summary.json"]
    assert (empty(second), waiting(home)) == (True, 0)


def test_prefect_s_database_has_one_machine_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    with another_machine(tmp_path / "prefect"):
        with pytest.raises(ValueError, match=r"^PREFECT_API_URL must name one server"):
            prefect_server(4200, tmp_path)
        monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql://db/x")
        prefect_server(4200, tmp_path)
        monkeypatch.delenv("PREFECT_SERVER_DATABASE_CONNECTION_URL")
    prefect_server(4200, tmp_path)
