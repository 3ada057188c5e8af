"""Reading models that an earlier stage wrote."""

from __future__ import annotations

from rosita_core.model.checkpoint import load
from rosita_core.model.modeling_rosita import RositaForSequenceClassification
from tasks.execution.stage_inputs import StageInputs


def model(work: StageInputs, role: str) -> RositaForSequenceClassification:
    """The model of the artifact in `role`, in eval mode."""
    return load(work.input(role))
