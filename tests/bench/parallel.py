"""Training by one process and by two that share each batch: `make bench-parallel`.

Examples a second of a distillation of MiniLM-L6's size at the same global batch, and of the same on
as many threads in one process, which is what a CPU offers otherwise. On two cores two processes
have one core each: what is shown there is what sharing costs, not what GPUs gain by it.
"""

from __future__ import annotations

import statistics
import tempfile
from itertools import pairwise
from pathlib import Path

from rosita_core.training.checkpoints import NoCheckpoints
from tasks.cache.stage_key import Stage
from tasks.execution.parallel import in_processes
from tasks.execution.stage_inputs import StageInputs
from tasks.host.hardware import cores, hardware
from tests.bench.parallel_training import BATCH, TOKENS, WARMUP, distill, write_rows
from tests.shared.contexts import stage_context

ROUNDS = 3


def examples_per_second(processes: int, threads: int) -> float:
    """Of the steps after the first few."""
    numerics = {
        "device": "cpu",
        "precision": "fp32",
        "deterministic": False,
        "processes": processes,
    }
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder))
        context = stage_context(Path(folder), None).model_copy(update={"threads": threads})
        stage = Stage("student", ("rosita_core.stages.student",), None, {}, numerics)
        in_processes(distill, StageInputs(stage, context), NoCheckpoints())
        lines = (Path(folder) / "steps").read_text(encoding="utf-8").split()
        ended = [float(line) for line in lines][WARMUP:]
    return BATCH / statistics.median(b - a for a, b in pairwise(ended))


def main() -> None:
    """Print the table."""
    facts = hardware()
    print(
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB; "
        f"torch {facts['torch']}; Python {facts['python']}; batch {BATCH} x {TOKENS} tokens, fp32\n"
    )
    ways = {"1 process, 1 thread": (1, 1), "2 processes, 1 thread each": (2, 1)}
    if cores() > 1:
        ways["1 process, 2 threads"] = (1, 2)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (processes, threads) in ways.items():
            found[name].append(examples_per_second(processes, threads))
    base = statistics.median(found["1 process, 1 thread"])
    print("| training | examples a second | against one thread |\n|---|---|---|")
    for name, rates in found.items():
        rate = statistics.median(rates)
        print(
            f"| {name} | {rate:.1f} ({min(rates):.1f} to {max(rates):.1f}) | {rate / base:.2f}x |"
        )


if __name__ == "__main__":
    main()
