"""A stage while it is computed: its inputs, its output, its checkpoints and who hears of it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rosita_core.training.progress import Progress
from tasks.cache.checkpoints import StageCheckpoints
from tasks.cache.records import Context
from tasks.cache.stage_key import Stage
from tasks.execution.stage_inputs import StageInputs
from tasks.home import Home
from tasks.host.hardware import hardware
from tasks.host.signals import able_to_save
from tasks.store.disk import DiskFull, is_full, no_room


@dataclass(frozen=True)
class Computed:
    """What a stage came to.

    Attributes:
        artifact: digest of what it stored.
        metrics: numbers and texts.
        seconds: that it took, those before its checkpoint among them.
        hardware: of the machine that computed it.
    """

    artifact: str
    metrics: dict[str, float | str]
    seconds: float
    hardware: dict[str, Any]


class Listener(Protocol):
    """Who hears of a stage while it is computed, in this process or another."""

    def resumed(self, unit: int | None) -> None:
        """It begins; `unit` says after which one it goes on, None from the start."""

    def report(self, event: Progress) -> None:
        """It has come so far."""


class Work(StageInputs):
    """What a stage's `compute` needs; whoever makes one holds the lock of the stage key."""

    def __init__(self, stage: Stage, context: Context, listener: Listener) -> None:
        super().__init__(stage, context)
        self.checkpoints = StageCheckpoints(
            Home(context.home).checkpoints_of(stage.key),
            stage.name,
            context.checkpoint_seconds,
            context.checkpoint_steps,
            context.begin_anew,
        )
        self._listener = listener
        self._began = time.monotonic()
        self._artifact: str | None = None
        listener.resumed(self.checkpoints.resumed_from)

    @contextmanager
    def output(self) -> Iterator[Path]:
        """An empty directory for the stage's artifact; it enters the store when the block ends.

        When the block raises, nothing is stored. A stage has one output. Raises DiskFull when
        there is no room for it.
        """
        assert self._artifact is None, f"{self.stage.name} has one output, not two"
        try:
            with self.store.workspace() as folder:
                yield folder
                self._artifact = self.store.adopt(folder)
        except Exception as error:
            # A checkpoint that finds no room while an artifact is being made says so itself.
            if isinstance(error, DiskFull) or not is_full(error):
                raise
            raise no_room(f"the artifact of stage {self.stage.name}", self.store.root) from error

    @contextmanager
    def resumable(self) -> Iterator[StageCheckpoints]:
        """The checkpoints of the stage, for a kernel that asks whether one is due.

        While the block runs, a signal makes one due, and the kernel stops when it has saved it.
        """
        with able_to_save():
            yield self.checkpoints

    def report(self, event: Progress) -> None:
        """Tell of a kernel's progress, and its metrics at its step. Pass it as `report=`."""
        self._listener.report(event)

    def computed(self, metrics: Mapping[str, float | str]) -> Computed:
        """What the stage came to, once its output is stored. Return it from `compute`."""
        assert self._artifact is not None, f"{self.stage.name} must store its output first"
        seconds = self.checkpoints.seconds_before + time.monotonic() - self._began
        return Computed(self._artifact, dict(metrics), round(seconds, 3), hardware())
