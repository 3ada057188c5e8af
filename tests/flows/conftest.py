"""The command line as a user types it, and a home in which `rosita compress` has finished once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROSITA = Path(sys.executable).parent / "rosita"
# What the user's own shell may say must not reach the tests.
FOREIGN = ("ROSITA_HOME", "MLFLOW_TRACKING_URI", "PREFECT_API_URL")


def environment(home: Path, env: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a command that works in `home`; `env` is added to it."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    prefect = {"PREFECT_HOME": str(home.parent / f"{home.name}-prefect")}
    return kept | {"OMP_NUM_THREADS": "1"} | prefect | {"ROSITA_HOME": str(home)} | (env or {})


def run_rosita(
    args: tuple[str, ...],
    home: Path,
    env: dict[str, str] | None,
    stdin: str | None,
    cwd: Path | None,
) -> subprocess.CompletedProcess[str]:
    """Run `rosita ARGS` in `home` to its end."""
    return subprocess.run(
        [str(ROSITA), *args],
        env=environment(home, env),
        input="" if stdin is None else stdin,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@dataclass(frozen=True)
class Home:
    """A home in which the smoke recipe has run; `summary` is what `compress --json` printed."""

    home: Path
    summary: dict[str, Any]

    def run(
        self,
        *args: str,
        env: dict[str, str] | None = None,
        stdin: str | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `rosita ARGS` in this home."""
        return run_rosita(args, self.home, env, stdin, cwd)


@pytest.fixture(scope="session")
def smoke_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One finished `rosita compress --recipe smoke`. Read only: a test that damages copies it."""
    home = tmp_path_factory.mktemp("smoke") / "home"
    done = run_rosita(("compress", "--recipe", "smoke", "--json"), home, None, None, None)
    assert done.returncode == 0, done.stderr[-3000:]
    return Home(home, json.loads(done.stdout))


@pytest.fixture
def rosita(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`rosita(*args, home=, env=, stdin=, cwd=)`; without `home` an empty one of this test."""

    def run(
        *args: str,
        home: Path | None = None,
        env: dict[str, str] | None = None,
        stdin: str | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return run_rosita(args, home or tmp_path / "home", env, stdin, cwd)

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
    return Home(home, smoke_home.summary)
