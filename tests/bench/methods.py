"""What compressing without training takes: `make bench-methods`. Prints a Markdown table.

Each method cuts MiniLM, fine-tuned for one short pass on the demo's rows, by the command as a user
types it. The teacher and what was measured of it are made once, for all of them. The peak memory
is that of a command as a whole.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from flows.recipes.presets import METHODS
from tasks.host.hardware import hardware

ROSITA = Path(sys.executable).parent / "rosita"
SHARE = 0.5
# The speed of a cut asks nothing of the teacher's score.
TEACHER = ("teacher.epochs=0.05", "gate.weak_teacher=warn", "gate.weak_student=warn")
LIMITS = {"scale": 90}
LIMIT = 60


def compressed(method: str, variables: dict[str, str]) -> dict[str, Any]:
    """The summary of a run by `method`."""
    changes = (
        f"method={method}",
        f"compress.budget.share={SHARE}",
        "export.formats=[hugging-face]",
        *TEACHER,
    )
    done = subprocess.run(
        [str(ROSITA), "compress", "--recipe", "demo", "--json"]
        + [f"--set={change}" for change in changes],
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def main() -> None:
    """Print the table."""
    facts = hardware()
    print(
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB; "
        f"torch {facts['torch']}; Python {facts['python']}\n"
    )
    print("| method | repair | measure | cut | together | aim | peak memory |")
    print("|---|---|---|---|---|---|---|")
    kept = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "PREFECT_HOME")
    variables = {name: value for name, value in os.environ.items() if name not in kept}
    with tempfile.TemporaryDirectory() as home:
        for method, parts in METHODS.items():
            summary = compressed(method, variables | {"ROSITA_HOME": home})
            took = {stage["name"]: stage["seconds"] for stage in summary["stages"]}
            together = took["measure"] + took["cut"]
            print(
                f"| {method} | {parts.repair} | {took['measure']:.0f} s | {took['cut']:.0f} s "
                f"| {together:.0f} s | {LIMITS.get(parts.repair, LIMIT)} s "
                f"| {summary['peak_memory_mb']:,.0f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
