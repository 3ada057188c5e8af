"""One Prefect server, one undisturbed run, and homes to spoil."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty import STAGES, Done, FaultyHome, forget
from prefect_server import PrefectServer
from serving import free_ports

MakeHome = Callable[[str | None], FaultyHome]
KEPT = ("store", "results", "attempts", "downloads")
"""What later runs read of a home; its runs and logs are its own."""


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server that all commands share: starting one takes each of them seconds."""
    server = PrefectServer(tmp_path_factory.mktemp("prefect") / "home", free_ports(1)[0])
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def undisturbed_home(
    tmp_path_factory: pytest.TempPathFactory, prefect: PrefectServer
) -> FaultyHome:
    """The home of the undisturbed run. Read only."""
    return FaultyHome(tmp_path_factory.mktemp("undisturbed") / "home", prefect.home, prefect.api)


@pytest.fixture(scope="session")
def undisturbed(undisturbed_home: FaultyHome) -> Done:
    """A run of the smoke recipe to which nothing happened."""
    done = undisturbed_home.compress()
    assert list(done.statuses()) == list(STAGES), done.stderr[-4000:]
    return done


@pytest.fixture
def home_before(
    undisturbed_home: FaultyHome, undisturbed: Done, prefect: PrefectServer, tmp_path: Path
) -> MakeHome:
    """`home_before(stage)`: a home in which the stages before it are done; None for all of them."""

    def make(stage: str | None) -> FaultyHome:
        made = FaultyHome(tmp_path / "home", prefect.home, prefect.api)
        for name in KEPT:
            shutil.copytree(undisturbed_home.home / name, made.home / name)
        if stage is not None:
            forget(made.home, undisturbed.summary, stage)
        _copy_tracking(undisturbed_home.home, made.home)
        return made

    return make


def _copy_tracking(source: Path, target: Path) -> None:
    """A store of MLflow of its own whose tables are made: making them takes seconds."""
    shutil.copy(source / "mlflow.db", target / "mlflow.db")
    connection = sqlite3.connect(target / "mlflow.db")
    with connection:
        connection.execute(
            "update experiments set artifact_location = replace(artifact_location, ?, ?)",
            (str(source), str(target)),
        )
    connection.close()
