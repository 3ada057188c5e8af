"""A home in which a grid was killed and then finished, and what tests of grids ask of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from command_line import Done, rosita
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.settings import get_current_settings
from prefect.testing.utilities import prefect_test_harness
from typed_command import ROSITA, environment

from tasks.cache.records import attempts
from tasks.stages.catalogue import catalogue

INJECTED = Path(__file__).parents[1] / "faults" / "injected"
SECONDS = 900
CELLS = ["1-s42", "4-s42", "1-s43", "4-s43"]
QUICK = (
    "data.limit_rows=96",
    # Something to go on from.
    "checkpoint.every_steps=2",
    "assess.latency_repeats=2",
    "assess.latency_warmup=1",
    "assess.latency_batch_sizes=[1, 32]",
    "assess.latency_tokens=16",
    "numerics.threads=1",
)
SMOKE = ("grid", "--grid", "smoke-grid", *(f"--set={change}" for change in QUICK))


@dataclass(frozen=True)
class GridHome:
    """A home in which smoke-grid was killed, and then finished. Read only.

    Attributes:
        home: ROSITA_HOME.
        killed: the first call, by SIGKILL in `width` of the second cell.
        left: its attempts.
        finished: the second call.
        flow_runs: the names that Prefect knows.
        artifacts: of the grid's flow run at Prefect: key -> data.
    """

    home: Path
    killed: subprocess.CompletedProcess[str]
    left: list[dict[str, Any]]
    finished: Done
    flow_runs: set[str]
    artifacts: dict[str, str]


def make_grid_home(home: Path) -> GridHome:
    """Run smoke-grid in `home`, with a Prefect server of its own."""
    with prefect_test_harness(server_startup_timeout=180):
        fault = {"do": "signal", "stage": "width", "call": 4, "signals": [signal.SIGKILL.name]}
        killed = run(home, *SMOKE, "--json", faults=[fault])
        left = made(home)
        finished = rosita(*SMOKE, "--json", home=home)
        assert finished.code == 0, (killed.stderr, finished.stderr)
        with get_client(sync_client=True) as client:
            names = {flow_run.name for flow_run in client.read_flow_runs()}
            flow_run = ArtifactFilterFlowRunId(any_=[UUID(finished.document["run_id"])])
            shown = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=flow_run))
    artifacts = {str(artifact.key): str(artifact.data) for artifact in shown}
    return GridHome(home, killed, left, finished, names, artifacts)


def command(home: Path, *args: str, faults: list[dict[str, Any]]) -> dict[str, Any]:
    """What starts `rosita ARGS` in a process that faults befall."""
    path = [str(INJECTED), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {
        "FAULTS": json.dumps(faults),
        "PYTHONPATH": os.pathsep.join(path),
        "PREFECT_API_URL": str(get_current_settings().api.url),
    }
    return {
        "args": [str(ROSITA), *args],
        "env": environment(home, home.parent / "prefect", variables),
        "stdin": subprocess.DEVNULL,
        "text": True,
    }


def run(home: Path, *args: str, faults: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """`rosita ARGS` to its end."""
    return subprocess.run(
        **command(home, *args, faults=faults), capture_output=True, timeout=SECONDS, check=False
    )


def made(home: Path) -> list[dict[str, Any]]:
    """All attempts of all stages."""
    return [record for stage in catalogue() for record in attempts(home, stage)]


def keys(document: dict[str, Any]) -> set[str]:
    """The distinct stage keys of finished cells."""
    return {s["key"] for cell in document["cells"] for s in cell.get("stages", ())}


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def grid_file(folder: Path, axes: dict[str, Any], seeds: list[int]) -> str:
    fields = dict(change.split("=", 1) for change in QUICK)
    settings = {name: yaml.safe_load(value) for name, value in fields.items()}
    path = folder / "mine.yaml"
    values = {"base": "smoke", "set": settings, "axes": axes, "seeds": seeds}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(path)
