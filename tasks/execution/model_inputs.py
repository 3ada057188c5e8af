"""Reading models that an earlier stage wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rosita_core.model.checkpoint import load
from rosita_core.training.answers import ANSWER_UNIT, in_standard_scores
from rosita_core.training.label_unit import load_unit
from tasks.execution.row_inputs import training_unit
from tasks.execution.stage_inputs import StageInputs

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


def model(work: StageInputs, role: str) -> RositaForSequenceClassification:
    """The model of the artifact in `role`, in eval mode."""
    return load(work.input(role))


def training_model(work: StageInputs, role: str) -> RositaForSequenceClassification:
    """`model` for a stage that trains: a regression's answers in standard scores.

    Of one that does not answer in labels, its own unit lies beside the weights.
    """
    own = load_unit(work.input(role) / f"{ANSWER_UNIT}.json")
    return in_standard_scores(model(work, role), own or training_unit(work))
