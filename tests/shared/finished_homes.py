"""Fixtures: homes with a finished run or grid, their servers, and the installed command."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked_command import Forked
from grid_homes import GridHome, make_grid_home
from made_once import made_once
from made_records import make_records
from prefect_server import PrefectServer
from serving import Serving, serving
from typed_command import Home, RunRosita, environment, run_rosita

ROWS = 300
Ended = subprocess.CompletedProcess


@pytest.fixture(scope="session")
def smoke_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One finished `rosita compress --recipe smoke`, as a user types it, without any server.

    Read only: a test that damages it, or wants to see that nothing changes, copies it.
    """

    def make(folder: Path) -> Home:
        home, prefect = folder / "home", folder / "home" / "prefect"
        done = run_rosita(("compress", "--recipe", "smoke", "--json"), home, prefect)
        assert done.returncode == 0, done.stderr[-3000:]
        return Home(home, prefect, json.loads(done.stdout))

    return made_once(tmp_path_factory, "smoke", make)


@pytest.fixture(scope="session")
def in_own_process(tmp_path_factory: pytest.TempPathFactory, prefect: PrefectServer) -> RunRosita:
    """`rosita ARGS`, forked (`forked_command.py`); called with `home=` and maybe `env=`."""

    def run(*args: str, home: Path, env: dict[str, str] | None = None) -> Ended:
        variables = environment(home, prefect.home, {"PREFECT_API_URL": prefect.api} | (env or {}))
        folder = tmp_path_factory.mktemp("said")
        out, err = folder / "stdout", folder / "stderr"
        code = Forked(args, variables, out, err).wait(300)
        return Ended(args, code, out.read_text("utf-8"), err.read_text("utf-8"))

    return run


@pytest.fixture
def copied_home(smoke_home: Home, tmp_path: Path) -> Home:
    """A copy of the smoke home that a test may damage; its files can be written.

    The summary is that of the original: `export_dir` and `home` in it point there.
    """
    home = tmp_path / "copy"
    shutil.copytree(smoke_home.home, home)
    for path in home.rglob("*"):
        path.chmod(path.stat().st_mode | 0o200)
    return Home(home, smoke_home.prefect, smoke_home.summary)


@pytest.fixture(scope="session")
def grid_home(tmp_path_factory: pytest.TempPathFactory) -> GridHome:
    """One smoke-grid that was killed and then finished. Read only: tests copy what they change."""
    return made_once(tmp_path_factory, "grid", lambda folder: make_grid_home(folder / "home"))


@pytest.fixture
def copied_grid(grid_home: GridHome, mlflow_tables: Path, tmp_path: Path) -> Path:
    """What the grid computed, with an MLflow store of its own."""
    home = tmp_path / "home"
    for name in ("store", "results", "attempts", "downloads"):
        shutil.copytree(grid_home.home / name, home / name)
    shutil.copy(mlflow_tables, home / "mlflow.db")
    return home


@pytest.fixture(scope="session")
def servers(smoke_home: Home) -> Iterator[Serving]:
    """Both servers over the smoke home, for tests that only look."""
    with serving(smoke_home) as running:
        yield running


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of made up records per grid. Read only."""

    def make(folder: Path) -> Path:
        for grid, unfinished in (("kd-settings", 0), ("architecture", 1), ("pruning-frequency", 0)):
            make_records(folder / grid, grid, rows=ROWS, unfinished=unfinished)
        make_records(folder / "kd-settings-cola", "kd-settings", "cola", rows=ROWS)
        return folder

    return made_once(tmp_path_factory, "records", make)
