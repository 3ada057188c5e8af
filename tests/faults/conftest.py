"""One undisturbed run, and homes to spoil."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import STAGES, Done, FaultyHome, forget
from made_once import made_once
from prefect_server import PrefectServer

MakeHome = Callable[[str | None], FaultyHome]
KEPT = ("store", "results", "attempts", "downloads")
"""What later runs read of a home; its runs and logs are its own."""


@pytest.fixture(scope="session")
def undisturbed_run(
    tmp_path_factory: pytest.TempPathFactory, prefect: PrefectServer
) -> tuple[FaultyHome, Done]:
    """A home that nobody may change, and the run of the smoke recipe that made it."""

    def make(folder: Path) -> tuple[FaultyHome, Done]:
        place = FaultyHome(folder / "home", prefect.home, prefect.api)
        return place, place.compress()

    place, done = made_once(tmp_path_factory, "undisturbed", make)
    assert list(done.statuses()) == list(STAGES), done.stderr[-4000:]
    return place, done


@pytest.fixture(scope="session")
def undisturbed(undisturbed_run: tuple[FaultyHome, Done]) -> Done:
    """A run of the smoke recipe to which nothing happened."""
    return undisturbed_run[1]


@pytest.fixture
def home_before(
    undisturbed_run: tuple[FaultyHome, Done], prefect: PrefectServer, tmp_path: Path
) -> MakeHome:
    """`home_before(stage)`: a home in which the stages before it are done; None for all of them."""

    source, undisturbed = undisturbed_run[0].home, undisturbed_run[1]

    def make(stage: str | None) -> FaultyHome:
        made = FaultyHome(tmp_path / "home", prefect.home, prefect.api)
        for name in KEPT:
            shutil.copytree(source / name, made.home / name)
        if stage is not None:
            forget(made.home, undisturbed.summary, stage)
        _copy_tracking(source, made.home)
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
