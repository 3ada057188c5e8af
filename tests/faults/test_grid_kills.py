"""A grid on two workers, killed at random moments and called again until it is done."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from grid_homes import SECONDS, SMOKE, command, keys, made
from processes import lives

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("in_prefect")]

KILLS = int(os.environ.get("GRID_KILLS", "12"))
SEED = 20261125
# So that most moments are in a stage, and each has something to go on from.
LONG = ("--set=width.epochs=20", "--set=student.epochs=6", "--seeds", "51")
GRID = (*SMOKE, *LONG, "--workers", "2", "--json")


def started(home: Path, said: Path) -> subprocess.Popen[str]:
    with said.open("w") as file:
        call = command(home, *GRID, faults=[])
        return subprocess.Popen(**call, stdout=file.fileno(), stderr=subprocess.STDOUT)


def undisturbed(home: Path) -> dict[str, Any]:
    done = subprocess.run(
        **command(home, *GRID, faults=[]), capture_output=True, timeout=SECONDS, check=True
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_kills_lose_nothing_that_was_finished(tmp_path: Path) -> None:
    whole = undisturbed(tmp_path / "whole")
    home, moments = tmp_path / "home", random.Random(SEED)
    lasts = 2.0 + max(r["result"]["seconds"] for r in made(tmp_path / "whole"))
    killed = 0
    for _ in range(KILLS):
        process = started(home, tmp_path / "said")
        begun = len(made(home))
        # From the first new attempt on: importing libraries is no interesting moment.
        while process.poll() is None and len(made(home)) == begun:
            time.sleep(0.05)
        time.sleep(moments.uniform(0.0, lasts))
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        # Its workers end with it.
        psutil.wait_procs(children, timeout=30)
        assert not any(lives(child) for child in children)
    assert killed > KILLS / 2
    done = undisturbed(home)
    found = [r["key"] for r in made(home) if r["status"] == "completed"]
    assert sorted(found) == sorted(keys(done))
    assert artifacts(done) == artifacts(whole)


def artifacts(document: dict[str, Any]) -> dict[str, str]:
    """Stage key -> artifact, but for what measures time and what reads that."""
    stages = [stage for cell in document["cells"] for stage in cell["stages"]]
    return {s["key"]: s["artifact"] for s in stages if s["name"] not in ("assess", "export")}
