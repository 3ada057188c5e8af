"""The catalogue: one row per stage, from which every list of stages is made.

Nothing heavy is imported here: what a row names is loaded by whoever runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

ROOM = "tasks.stages"
KERNELS = "rosita_core.stages"
TARGETS = "targets"


@dataclass(frozen=True)
class StageKind:
    """A kind of stage.

    Attributes:
        name: as people write it.
        does: what, in a few words.
        task: the module in this room that hands the kernel its inputs: its function `compute`, and
            `note` where there is something to tell of the result.
        kernel: the module of the kernel that the task calls, in `rosita_core.stages`.
        trains: whether it takes optimizer steps.
        unit: what its time grows with: "step", "row", or None where it grows with neither.
        counted: the metric of its result that counts these units.
        origin: role of the input that leads back to the pretrained model; None where none does.
        timed: whether it measures time, and so has the machine for itself.
    """

    name: str
    does: str
    task: str
    kernel: str
    trains: bool = False
    unit: str | None = None
    counted: str | None = None
    origin: str | None = None
    timed: bool = False

    @property
    def code(self) -> tuple[str, str]:
        """The modules whose source decides its result: the kernel's and the task's."""
        return f"{KERNELS}.{self.kernel}", f"{ROOM}.{self.task}"

    def load(self) -> Any:
        """The Prefect task; called with (stage, context, results of the stages before)."""
        from prefect import task

        from tasks.execution.attempt import Context, Stage, StageResult, carry_out

        def run(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
            # Not before: a result from the cache needs no kernel.
            module = import_module(f"{ROOM}.{self.task}")
            return carry_out(module.compute, stage, context, getattr(module, "note", None))

        # Prefect tells tasks by it.
        run.__qualname__ = self.task
        return task(name=self.name, description=self.does)(run)


def _training(name: str, does: str, task: str, kernel: str, origin: str | None) -> StageKind:
    return StageKind(name, does, task, kernel, True, "step", "steps", origin)


def targets_of(training: str) -> str:
    """The stage that keeps what the teacher of a training says."""
    return f"{training}-{TARGETS}"


def _distilling(
    name: str, does: str, task: str, kernel: str, origin: str
) -> tuple[StageKind, StageKind]:
    """A training that may learn from a teacher, after the stage that keeps what it says."""
    kept = StageKind(
        *(targets_of(name), f"keep what the teacher of {name} says", "keep_targets", TARGETS),
        unit="row",
        counted="rows",
        origin="teacher",
    )
    return kept, _training(name, does, task, kernel, origin)


STAGES = (
    StageKind("data", "read, split, check and tokenize the rows", "prepare_data", "data"),
    StageKind(
        *("further", "read rows of other domains, and what people said", "read_further", "further")
    ),
    _training("teacher", "fine-tune the pretrained model", "finetune_teacher", "teacher", None),
    StageKind(
        *("augment", "make variants of the training rows", "augment_data", "augment"),
        unit="row",
        counted="rows_original",
    ),
    *_distilling("student", "distill BERT(student)", "distill_student", "student", "teacher"),
    *_distilling("depth", "remove layers while distilling", "prune_depth", "depth", "teacher"),
    *_distilling(
        *("width", "prune heads, FFN units and embedding rank while distilling", "prune_width"),
        *("width", "teacher"),
    ),
    *_distilling("one-step", "cut once, then train", "prune_one_step", "one_step", "source"),
    StageKind(
        *("measure", "collect what criteria read of rows", "measure_teacher", "measure"),
        unit="row",
        counted="rows",
        origin="teacher",
    ),
    StageKind(
        *("cut", "rank, keep what a budget pays for, and repair", "cut_model", "cut"),
        origin="teacher",
    ),
    *_distilling("recover", "train what a cut has left", "recover_model", "recover", "source"),
    StageKind(
        *("assess", "score and measure teacher and student", "assess_student", "assess"),
        origin="teacher",
        timed=True,
    ),
    StageKind(
        *("export", "write the compressed model in every format", "export_model", "export"),
        origin="teacher",
        timed=True,
    ),
)
"""Every stage, each after those that it may read from."""

REGISTER = "register"
"""Recording, which is no stage: it has no key, and runs every time."""


def catalogue() -> dict[str, StageKind]:
    """Name -> kind, in the order of the method."""
    return {kind.name: kind for kind in STAGES}


def trainings() -> tuple[str, ...]:
    """Names of the stages that take optimizer steps."""
    return tuple(kind.name for kind in STAGES if kind.trains)
