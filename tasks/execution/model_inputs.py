"""Reading models that an earlier stage wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rosita_core.model.checkpoint import load
from tasks.execution.stage_inputs import StageInputs

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


def model(work: StageInputs, role: str) -> RositaForSequenceClassification:
    """The model of the artifact in `role`, in eval mode."""
    return load(work.input(role))
