"""Reading models that an earlier stage wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rosita_core.model.checkpoint import load
from rosita_core.training.answers import ANSWER_UNIT, in_labels, in_standard_scores
from rosita_core.training.label_unit import LabelUnit, load_unit
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
    return in_standard_scores(model(work, role), _own_unit(work, role) or training_unit(work))


def measured_model(work: StageInputs, role: str) -> RositaForSequenceClassification:
    """`model` for a stage that compares numbers with labels: a regression's answers in labels."""
    if _own_unit(work, role) is None:
        return model(work, role)
    return in_labels(training_model(work, role), training_unit(work))


def _own_unit(work: StageInputs, role: str) -> LabelUnit | None:
    return load_unit(work.input(role) / f"{ANSWER_UNIT}.json")
