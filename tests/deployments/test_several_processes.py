"""`numerics.processes` through the command line: the keys of stages, and a stop by SIGTERM."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import rosita
from prefect.settings import get_current_settings
from prefect.testing.utilities import prefect_test_harness
from typed_command import ROSITA, environment

from tasks.cache.records import attempts

pytestmark = pytest.mark.deployments

INJECTED = Path(__file__).parents[1] / "faults" / "injected"
CHANGES = (
    "kd_setting=none",
    "data.limit_rows=96",
    "checkpoint.every_steps=2",
    "assess.latency_repeats=2",
    "assess.latency_warmup=1",
    "assess.latency_tokens=16",
    # 12 steps after the 3 batches of the ranking.
    "width.epochs=4",
    "numerics.processes=2",
)
RECIPE = ("--recipe", "smoke", *(f"--set={change}" for change in CHANGES))


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


def test_a_stage_in_two_processes_saves_when_stopped_and_goes_on(tmp_path: Path) -> None:
    home = tmp_path / "home"
    faults = [{"do": "signal", "stage": "one-step", "call": 8, "signals": ["SIGTERM"]}]
    path = [str(INJECTED), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {
        "FAULTS": json.dumps(faults),
        "PYTHONPATH": os.pathsep.join(path),
        "PREFECT_API_URL": str(get_current_settings().api.url),
    }
    stopped = subprocess.run(
        [str(ROSITA), "compress", *RECIPE],
        env=environment(home, tmp_path / "prefect", variables),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert stopped.returncode != 0
    assert "stage one-step was stopped and saved after 6 of 12" in stopped.stderr
    assert [r["status"] for r in attempts(home, "one-step")] == ["interrupted"]

    done = rosita("compress", *RECIPE, "--json", home=home)
    assert done.code == 0, done.stderr[-3000:]
    found = attempts(home, "one-step")[-1]
    assert (found["status"], found["resumed_from"]) == ("completed", 6)

    # Trainings alone are divided, and say so in their keys; the rest is shared with other runs.
    for stage in ("teacher", "one-step"):
        assert attempts(home, stage)[-1]["components"]["numerics"]["processes"] == 2
    assert "processes" not in attempts(home, "assess")[-1]["components"]["numerics"]
    alone = (*RECIPE, "--set=numerics.processes=1")
    planned = rosita("plan", *alone, "--json", home=home).document["stages"]
    assert {stage["name"]: stage["status"] for stage in planned}["data"] == "cached"
    assert {stage["name"]: stage["status"] for stage in planned}["teacher"] != "cached"
    said = rosita("explain", "teacher", *alone, home=home).stdout
    assert "processes" in said
