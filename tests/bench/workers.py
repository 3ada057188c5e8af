"""A grid of eight small cells on one and on two workers: `make bench-workers`.

The cells are those of smoke-grid with four seeds: 41 distinct stages, which take a second or two
each, so that what is around the kernels weighs more than it ever does in earnest. A stage's body
(its attempt: reading inputs, kernel, writing the artifact, its records) is told from everything
else: starting, planning, Prefect's and MLflow's servers and clients, and waiting for each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tasks.cache.records import attempts
from tasks.host.hardware import hardware
from tasks.stages.catalogue import catalogue

ROSITA = Path(sys.executable).parent / "rosita"
SEEDS = "42,43,44,45"
WORKERS = (1, 2)


def run(workers: int) -> dict[str, Any]:
    """Wall clock and what the stages took, in a home of their own."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        kept = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "PREFECT_HOME")
        variables = {name: value for name, value in os.environ.items() if name not in kept}
        variables |= {"ROSITA_HOME": str(home), "PREFECT_HOME": str(Path(folder) / "prefect")}
        command = [str(ROSITA), "grid", "--grid", "smoke-grid", "--seeds", SEEDS, "--json"]
        command += ["--set=numerics.threads=1", "--workers", str(workers)]
        began = time.monotonic()
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
        seconds = time.monotonic() - began
        document = json.loads(done.stdout)
        made = [
            record
            for stage in catalogue()
            for record in attempts(home, stage)
            if record["status"] == "completed"
        ]
    return {
        "seconds": seconds,
        "stages": sum(record["result"]["seconds"] for record in made),
        "computed": len(made),
        "cells": len(document["cells"]),
    }


def main() -> None:
    """Print the table."""
    facts = hardware()
    print(
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB; torch "
        f"{facts['torch']}; Python {facts['python']}; other load at the start: "
        f"{os.getloadavg()[0]:.1f}\n"
    )
    print("| workers | cells | stages computed | wall clock | in stages | outside | speed-up |")
    print("|---|---|---|---|---|---|---|")
    first = 0.0
    for workers in WORKERS:
        one = run(workers)
        first = first or one["seconds"]
        outside = 1 - one["stages"] / (one["seconds"] * workers)
        print(
            f"| {workers} | {one['cells']} | {one['computed']} | {one['seconds']:.0f} s "
            f"| {one['stages']:.0f} s | {outside:.0%} | {first / one['seconds']:.2f}x |",
            flush=True,
        )


if __name__ == "__main__":
    main()
