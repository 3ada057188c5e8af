"""Reading what an earlier stage kept of a teacher's outputs."""

from __future__ import annotations

from rosita_core.distillation.kept import KeptOutputs, read_kept
from tasks.execution.stage_inputs import StageInputs

TARGETS = "targets"


def kept_outputs(work: StageInputs) -> KeptOutputs | None:
    """What the teacher says of the stage's rows; None where it is to be computed."""
    return read_kept(work.input(TARGETS)) if TARGETS in work.stage.inputs else None
