"""A home in which `rosita compress` has finished once, its servers, and the installed command."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from grid_homes import GridHome, make_grid_home
from serving import Serving, serving
from typed_command import Home, run_rosita


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database of Prefect for all commands: making its tables takes seconds."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def smoke_home(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Home:
    """One finished `rosita compress --recipe smoke`. Read only: a test that damages copies it."""
    home = tmp_path_factory.mktemp("smoke") / "home"
    done = run_rosita(("compress", "--recipe", "smoke", "--json"), home, prefect_home)
    assert done.returncode == 0, done.stderr[-3000:]
    return Home(home, prefect_home, json.loads(done.stdout))


@pytest.fixture
def rosita(tmp_path: Path, prefect_home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`rosita(*args, home=, env=, stdin=, cwd=)`; without `home` an empty one of this test."""

    def run(
        *args: str,
        home: Path | None = None,
        env: dict[str, str] | None = None,
        stdin: str = "",
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return run_rosita(args, home or tmp_path / "home", prefect_home, env, stdin, cwd)

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
    return make_grid_home(tmp_path_factory.mktemp("grid") / "home")


@pytest.fixture
def copied_grid(grid_home: GridHome, tmp_path: Path) -> Path:
    """What the grid computed, with an MLflow store of its own."""
    home = tmp_path / "home"
    for name in ("store", "results", "attempts", "downloads"):
        shutil.copytree(grid_home.home / name, home / name)
    return home


@pytest.fixture(scope="session")
def servers(smoke_home: Home) -> Iterator[Serving]:
    """Both servers over the smoke home, for tests that only look."""
    with serving(smoke_home) as running:
        yield running
