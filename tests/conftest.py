"""Settings of all tests, their order, one Prefect server, and the tables of MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from prefect_server import PrefectServer

# How long an example takes says nothing on a machine that is busy with something else.
settings.register_profile("rosita", deadline=None)
settings.load_profile("rosita")


# They make what others only read, each on the one process while the other has work of its own.
FIRST = ["test_clock.py", "test_benchmark_command.py", "test_grid_command.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The short tests of the kernels come last: of processes that share the files, none is then
    left alone with a long one at the end."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> tuple[bool, int]:
    name = item.path.name
    return item.path.parent.name == "core", FIRST.index(name) if name in FIRST else len(FIRST)


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server that all commands share: starting one takes each of them seconds."""
    from prefect_server import PrefectServer
    from serving import free_ports

    server = PrefectServer(tmp_path_factory.mktemp("prefect-server") / "home", free_ports(1)[0])
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def in_prefect(prefect: PrefectServer) -> Iterator[None]:
    """Flows of the test's own process report to that server."""
    from prefect_server import connected

    with connected(prefect.api):
        yield


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow in which nothing is recorded; making the tables takes seconds."""
    from made_once import made_once

    def make(folder: Path) -> Path:
        from mlflow import MlflowClient

        path = folder / "mlflow.db"
        uri = f"sqlite:///{path}"
        MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments()
        return path

    return made_once(tmp_path_factory, "mlflow-tables", make)
