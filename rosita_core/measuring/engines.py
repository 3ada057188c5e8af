"""The latency of engines that compute the same thing, each in a process of its own, in turns."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rosita_core.measuring import engine_process
from rosita_core.measuring.latency import Latency, latency_of

TORCH, ONNX = "torch", "onnx"


@dataclass(frozen=True)
class Engine:
    """What computes a model.

    Attributes:
        folder: the checkpoint, or the folder of a graph.
        kind: torch, or onnx for ONNX Runtime.
        device, precision: of torch; ONNX Runtime computes what the graph says, on the CPU.
        compiled: whether torch compiles the model.
    """

    folder: Path
    kind: str
    device: str = "cpu"
    precision: str = "fp32"
    compiled: bool = False


@dataclass(frozen=True)
class Measured:
    """What an engine took.

    Attributes:
        latencies: of every batch size, in the order given.
        peak_memory_mb: of its process, in MB (10^6 bytes).
    """

    latencies: tuple[Latency, ...]
    peak_memory_mb: float


@dataclass(frozen=True)
class Rounds:
    """What is timed.

    Attributes:
        batch_sizes: each is timed.
        tokens: length of every sequence, none of it padding.
        repeats: timed passes of every engine and batch size.
        warmup: rounds before them.
        seed: of the token ids.
        vocabulary: they are below it.
        threads: of every engine.
    """

    batch_sizes: tuple[int, ...]
    tokens: int
    repeats: int
    warmup: int
    seed: int
    vocabulary: int
    threads: int

    @property
    def turns(self) -> int:
        """How often every engine computes."""
        return len(self.batch_sizes) * (self.warmup + self.repeats)


def measure_engines(
    engines: Mapping[str, Engine], rounds: Rounds, done: Callable[[], None]
) -> dict[str, Measured]:
    """The latency of every engine; while one computes, the others wait for their turn.

    Args:
        engines: by name.
        rounds: what is timed.
        done: called after each of the turns.

    Raises:
        ValueError: where an engine cannot be started, with its last line.
    """
    with ExitStack() as stack:
        # One after the other: what starts takes all cores.
        running = {
            name: stack.enter_context(_Running(name, engine, rounds))
            for name, engine in engines.items()
        }
        times: dict[str, list[Latency]] = {name: [] for name in engines}
        for batch_size in rounds.batch_sizes:
            spent: dict[str, list[int]] = {name: [] for name in engines}
            for turn in range(rounds.warmup + rounds.repeats):
                for name, engine in running.items():
                    nanoseconds = int(engine.ask(f"{batch_size} {rounds.tokens}"))
                    if turn >= rounds.warmup:
                        spent[name].append(nanoseconds)
                done()
            for name, found in spent.items():
                times[name].append(latency_of(batch_size, rounds.tokens, found))
        return {
            name: Measured(tuple(times[name]), float(engine.ask("end")))
            for name, engine in running.items()
        }


class _Running:
    """The process of one engine."""

    def __init__(self, name: str, engine: Engine, rounds: Rounds) -> None:
        self._name = name
        given = asdict(engine) | {"folder": str(engine.folder)}
        given |= {name: getattr(rounds, name) for name in ("seed", "vocabulary", "threads")}
        # A pipe that nobody reads would fill, and stop the process.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (`__exit__` closes it)
        self._process = subprocess.Popen(
            [sys.executable, "-m", engine_process.__name__, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def __enter__(self) -> _Running:
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def ask(self, line: str) -> str:
        """Send a line; the answer to it."""
        assert self._process.stdin is not None
        # One that has ended answers nothing, and the reason is what it said last.
        with suppress(OSError):
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip().splitlines()
            raise ValueError(f"engine {self._name} must run, got {said[-1] if said else 'nothing'}")
        return answer.strip()
