"""What caching, verification and checkpoints cost: `make bench`. Prints a Markdown table.

A fully cached run stands beside a Prefect flow of as many tasks that do nothing, in one process and
one measurement, and a fully cached grid of 8 cells beside such a flow, each a command;
verification beside reading the same file; a checkpoint beside its interval.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tasks.host.environment import prepare_environment

ROUNDS = 5
GRID = (
    *(str(Path(sys.executable).parent / "rosita"), "grid", "--grid", "smoke-grid"),
    *("--seeds", "42,43,44,45", "--set=data.limit_rows=96"),
)
IDLE = """
import sys
from prefect import flow, task

@task
def nothing():
    return None

@flow
def idle():
    for _ in range(int(sys.argv[1])):
        nothing()

idle()
"""
ARTIFACT_MB = 440
INTERVAL_SECONDS = 300.0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what a run writes for its user."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


def median_seconds(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median of several calls."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def bench_cached_run() -> list[str]:
    """A fully cached run of `smoke` against a flow of as many tasks that do nothing."""
    from prefect import flow, task

    from flows.api import compress
    from flows.engine.checks import prepare_request
    from flows.method import method
    from flows.recipes.shipped import load_recipe

    recipe = load_recipe("smoke", ())
    stages = len(method(prepare_request(recipe, download=True)))

    @task
    def nothing() -> None:
        return None

    @flow(name="nothing")
    def idle() -> None:
        for _ in range(stages):
            nothing()

    with quiet():
        compress("smoke")
        idle()
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(median_seconds(lambda: compress("smoke"), 1))
            theirs.append(median_seconds(idle, 1))
    cached, empty = statistics.median(ours), statistics.median(theirs)
    each = (cached - empty) / stages * 1e3
    return [
        f"| cached run of smoke, {stages} stages | {cached:.2f} s | {stages} tasks that do nothing "
        f"{empty:.2f} s | {each:,.0f} ms more a stage |"
    ]


def bench_cached_grid() -> str:
    """The command of a cached grid of 8 cells against that of a flow of as many empty tasks."""
    computed = json.loads(_seconds_of(*GRID, "--json")[1])
    stages = computed["stages"]["distinct"]
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(_seconds_of(*GRID)[0])
        theirs.append(_seconds_of(sys.executable, "-c", IDLE, str(stages))[0])
    cached, empty = statistics.median(ours), statistics.median(theirs)
    return (
        f"| `rosita grid`, {len(computed['cells'])} cells, {stages} stages, all cached "
        f"| {cached:.1f} s | `python` with a flow of {stages} tasks that do nothing {empty:.1f} s "
        f"| {cached - empty:.1f} s more |"
    )


def _seconds_of(*command: str) -> tuple[float, str]:
    """Wall clock of a command, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, done.stdout


def bench_verification(home: Path) -> str:
    """Verifying an artifact of 440 MB against reading and hashing the file alone."""
    from tasks.store.artifacts import Store

    store = Store(home)
    with store.workspace() as folder:
        with (folder / "weights.bin").open("wb") as file:
            for _ in range(ARTIFACT_MB):
                file.write(os.urandom(1_000_000))
        digest = store.adopt(folder)
    path = store.path(digest) / "weights.bin"

    def read() -> None:
        with path.open("rb") as file:
            while file.read(2**20):
                pass

    def digest_alone() -> None:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")

    ours = median_seconds(lambda: store.verify(digest))
    hashing, reading = median_seconds(digest_alone), median_seconds(read)
    return (
        f"| verify {ARTIFACT_MB} MB | {ours:.2f} s, {ARTIFACT_MB / ours:,.0f} MB/s | sha256 alone "
        f"{hashing:.2f} s; reading alone {reading:.2f} s | {ours / hashing:.2f}x of hashing |"
    )


def _write(state: Any, folder: Path) -> None:
    from rosita_core.training.checkpoints import write_state

    write_state(folder, state.write(folder))


def bench_checkpoints(home: Path) -> list[str]:
    """A checkpoint of a training that prunes, with its best weights, at two sizes."""
    import torch

    from flows.engine.checks import prepare_request
    from flows.method import method
    from flows.recipes.shipped import load_recipe
    from rosita_core.compression.iterative import Choice, IterativePruning
    from rosita_core.compression.schedule import PruneEvent
    from rosita_core.model.checkpoint import fresh, shape_of
    from rosita_core.model.modeling_rosita import RositaConfig
    from rosita_core.training.group import ALONE
    from rosita_core.training.state import TrainingState
    from tasks.cache.checkpoints import StageCheckpoints

    nodes = method(prepare_request(load_recipe("smoke", ()), download=True))
    config = next(node.config for node in nodes if node.name == "width")
    lines = []
    for name, hidden, head, layers in (("MiniLM-L6", 384, 32, 6), ("BERT-base", 768, 64, 12)):
        sizes = RositaConfig(
            hidden_size=hidden,
            head_size=head,
            layer_heads=(12,) * layers,
            layer_ffn_units=(4 * hidden,) * layers,
            num_labels=2,
        )
        model = fresh(sizes, 0)
        events = (PruneEvent(10, shape_of(model.config)),)
        width = IterativePruning(events, Choice(config.criterion, config.allocation), False, ())
        state = TrainingState(model, config.training, (width,), 10, "cpu", ALONE)
        for parameter in state.model.parameters():
            parameter.grad = torch.full_like(parameter, 1e-3)
        state.update(1e-5)
        state.best = (state.model.config, dict(state.model.state_dict()))
        folder = home / name
        checkpoints = StageCheckpoints(folder, "width", INTERVAL_SECONDS, None, False)
        seconds = median_seconds(partial(checkpoints.save, 1, 2, partial(_write, state)), 3)
        size = sum(path.stat().st_size for path in (folder / "000003").rglob("*")) / 1e6
        share = 100 * seconds / INTERVAL_SECONDS
        lines.append(
            f"| checkpoint of {name} with importance and best weights | {seconds:.2f} s, "
            f"{size:,.0f} MB | every {INTERVAL_SECONDS:.0f} s | {share:.2f} % of the time |"
        )
        checkpoints.drop()
    return lines


def main() -> None:
    """Print the table."""
    prepare_environment()
    from tasks.host.hardware import hardware

    facts = hardware()
    print(
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB; "
        f"torch {facts['torch']}; Python {facts['python']}\n"
    )
    print("| what | ours | beside | |\n|---|---|---|---|")
    # Not in the system's temporary folder, which may be memory.
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        home = Path(folder)
        os.environ["ROSITA_HOME"] = str(home)
        # Servers of the shell's own would be measured, and written to.
        for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
            os.environ.pop(name, None)
        print(bench_verification(home), flush=True)
        for line in bench_checkpoints(home):
            print(line, flush=True)
        print(bench_cached_grid(), flush=True)
        for line in bench_cached_run():
            print(line, flush=True)


if __name__ == "__main__":
    main()
