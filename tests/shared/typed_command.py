"""The command line as a user types it: the installed script, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROSITA = Path(sys.executable).parent / "rosita"
RunRosita = Callable[..., subprocess.CompletedProcess[str]]
# What the user's own shell may say must not reach the tests.
FOREIGN = ("ROSITA_HOME", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "ROSITA_STORE")


def environment(home: Path, prefect: Path, env: dict[str, str] | None = None) -> dict[str, str]:
    """The variables of a command that works in `home`, with Prefect's own files in `prefect`."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    places = {"ROSITA_HOME": str(home)}
    if prefect != home / "prefect":
        places["PREFECT_HOME"] = str(prefect)
    return kept | {"OMP_NUM_THREADS": "1"} | places | (env or {})


def run_rosita(
    args: tuple[str, ...],
    home: Path,
    prefect: Path,
    env: dict[str, str] | None = None,
    stdin: str = "",
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `rosita ARGS` to its end."""
    return subprocess.run(
        [str(ROSITA), *args],
        env=environment(home, prefect, env),
        input=stdin,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@dataclass(frozen=True)
class Home:
    """A home in which the smoke recipe has run.

    Attributes:
        home: ROSITA_HOME.
        prefect: PREFECT_HOME; its database knows the flow run.
        summary: what `rosita compress --recipe smoke --json` printed.
    """

    home: Path
    prefect: Path
    summary: dict[str, Any]

    def artifact(self, stage: str) -> Path:
        """The files that a stage of the run left in this home's store."""
        digests = {entry["name"]: entry["artifact"] for entry in self.summary["stages"]}
        return self.home / "store" / digests[stage] / "files"

    def run(
        self,
        *args: str,
        env: dict[str, str] | None = None,
        stdin: str = "",
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `rosita ARGS` in this home."""
        return run_rosita(args, self.home, self.prefect, env, stdin, cwd)
