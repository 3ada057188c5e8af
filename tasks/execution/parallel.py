"""One training in several processes of this machine, as torchrun starts them: one per GPU or core.

The stage's own process is the first of them. It alone records, reports, heeds signals and writes
checkpoints and the artifact, as it does where it trains alone; the others (`parallel_follower`) run
the same kernel on their share of the batches and have nothing to save. They are ended with it:
when the training is done, when it fails, and when a signal stops it after a checkpoint, so that all
of them stop after the same step.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.group import joined
from rosita_core.training.loop import Trained
from rosita_core.training.placement import Placement
from tasks.cache.records import Context
from tasks.cache.stage_key import PROCESSES, Stage
from tasks.execution.config_json import decoded, encoded
from tasks.execution.set_up import set_up
from tasks.execution.stage_inputs import StageInputs
from tasks.host.signals import stop_requested, stopped

Training = Callable[[Any, Placement, Checkpoints], Trained]
"""Reads what a stage needs and calls its kernel; a module's own function, found by its name."""

START = """
import json, signal, sys
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
sys.path[:] = json.loads(sys.stdin.readline())
from tasks.execution.parallel_follower import main
main()
"""
# A busy machine takes most of a minute to import torch, and a slow disk to read two models.
START_SECONDS = 600.0
POLL_SECONDS = 0.05
# What a process that is gone is given to be seen as gone; the connection ends a little before it.
DEATH_SECONDS = 5.0
TAIL_LINES = 3


@dataclass(frozen=True)
class Share:
    """What a follower is sent.

    Attributes:
        train: what it runs.
        stage, context: of the stage.
        latest: the checkpoint that the training goes on from.
        rank, size: its place among the processes.
        meeting: the folder in which they find each other.
    """

    train: Training
    stage: Stage
    context: Context
    latest: Path | None
    rank: int
    size: int
    meeting: Path

    def line(self) -> str:
        """All of it as one line of JSON."""
        return json.dumps(
            {
                "train": _name(self.train),
                "stage": _stage_values(self.stage),
                "context": self.context.model_dump(mode="json"),
                "latest": None if self.latest is None else str(self.latest),
                "rank": self.rank,
                "size": self.size,
                "meeting": str(self.meeting),
            }
        )

    @classmethod
    def of(cls, line: str) -> "Share":
        """The share that a line was made of."""
        said = json.loads(line)
        return cls(
            train=_named(said["train"]),
            stage=_stage_of(said["stage"]),
            context=Context.model_validate(said["context"]),
            latest=None if said["latest"] is None else Path(said["latest"]),
            rank=said["rank"],
            size=said["size"],
            meeting=Path(said["meeting"]),
        )


def _stage_values(stage: Stage) -> dict[str, Any]:
    """A stage as JSON-able values; what it has worked out of itself stays behind."""
    values = {field.name: getattr(stage, field.name) for field in fields(stage)}
    return {**values, "config": encoded(stage.config)}


def _stage_of(values: dict[str, Any]) -> Stage:
    return Stage(**{**values, "code": tuple(values["code"]), "config": decoded(values["config"])})


def _name(thing: Any) -> list[str]:
    """Where a module's own function is found."""
    return [thing.__module__, thing.__name__]


def _named(name: list[str]) -> Any:
    module, own = name
    return getattr(import_module(module), own)


def in_processes(train: Training, work: StageInputs, checkpoints: Checkpoints) -> Trained:
    """What `train` returns, computed by as many processes as the stage asks for.

    Raises:
        RuntimeError: where one of the others ends, with its last words. That is tried on CPUs; on
            GPUs NCCL may end this process first, ten minutes later, as torch's own log then says.
    """
    placement = set_up(work)
    size = int(work.stage.numerics.get(PROCESSES, 1))
    if size == 1:
        return train(work, placement, checkpoints)
    device = device_of(placement.device, 0)
    with tempfile.TemporaryDirectory(prefix="rosita-") as folder:
        meeting = Path(folder)
        shares = [
            Share(train, work.stage, work.context, checkpoints.latest(), rank, size, meeting)
            for rank in range(1, size)
        ]
        with _followers(shares) as followers:
            with _explained(followers):
                _wait_until_ready(followers)
            # The error is explained inside, while a follower that is well still waits for us.
            with joined(meeting, 0, size, device) as group, _explained(followers):
                return train(work, replace(placement, device=device, group=group), checkpoints)


def device_of(device: str, rank: int) -> str:
    """The device of one of the processes: a GPU each, or the CPU that they share."""
    return f"{device}:{rank}" if device == "cuda" else device


@dataclass(frozen=True)
class _Follower:
    share: Share
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def ready(self) -> Path:
        return ready_file(self.share)


def ready_file(share: Share) -> Path:
    """What a follower makes when it is about to join the others."""
    return share.meeting / f"ready-{share.rank}"


@contextmanager
def _followers(shares: list[Share]) -> Iterator[list[_Follower]]:
    """The other processes; they are gone when the block ends."""
    started: list[_Follower] = []
    try:
        for share in shares:
            log = share.meeting / f"log-{share.rank}"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-c", START],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C at a terminal is for the first process alone.
                    start_new_session=True,
                )
            started.append(_Follower(share, process, log))
        for follower in started:
            assert follower.process.stdin is not None
            # It stays open: a follower ends when it closes, however this process ends.
            lines = f"{json.dumps(sys.path)}\n{follower.share.line()}\n"
            follower.process.stdin.write(lines.encode())
            follower.process.stdin.flush()
        yield started
    finally:
        for follower in started:
            # There is nothing that it could save.
            follower.process.kill()
            follower.process.wait()
            if follower.process.stdin is not None:
                follower.process.stdin.close()


def _wait_until_ready(followers: list[_Follower]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not all(follower.ready.exists() for follower in followers):
        if stop_requested():
            # There is nothing new to save.
            raise stopped()
        if any(follower.process.poll() is not None for follower in followers):
            raise RuntimeError("a process ended before it began to train")
        if time.monotonic() > deadline:
            raise RuntimeError(f"a process did not start within {START_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


@contextmanager
def _explained(followers: list[_Follower]) -> Iterator[None]:
    """An error of the block is that of a follower, where this process only heard that it is gone.

    Raises RuntimeError with the last words of the follower.
    """
    try:
        yield
    except RuntimeError as error:
        deadline = time.monotonic() + DEATH_SECONDS
        while time.monotonic() < deadline:
            for follower in followers:
                if follower.process.poll():
                    raise RuntimeError(_last_words(follower)) from error
            time.sleep(POLL_SECONDS)
        raise


def _last_words(follower: _Follower) -> str:
    said = follower.log.read_text(encoding="utf-8", errors="replace").splitlines()
    last = " | ".join([line.strip() for line in said if line.strip()][-TAIL_LINES:])
    return (
        f"process {follower.share.rank + 1} of {follower.share.size} ended with "
        f"code {follower.process.returncode}: {last or '(it said nothing)'}"
    )
