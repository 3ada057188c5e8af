"""One MLflow server that tests kill, freeze and start again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_server import MlflowServer


@pytest.fixture(scope="session")
def machine(
    tmp_path_factory: pytest.TempPathFactory, mlflow_tables: Path
) -> Iterator[MlflowServer]:
    """A server that need not run yet: starting it takes most of the time of these tests."""
    server = MlflowServer(tmp_path_factory.mktemp("server"), mlflow_tables)
    yield server
    server.kill()


@pytest.fixture
def server(machine: MlflowServer) -> MlflowServer:
    machine.start()
    return machine


@pytest.fixture
def told(machine: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are sent to that server, and one that does not answer is soon given up."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", machine.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def home(tmp_path: Path, mlflow_tables: Path) -> Path:
    """A home of the test's own, with the tables that its first run would make, in seconds."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(mlflow_tables, home / "mlflow.db")
    return home


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder
