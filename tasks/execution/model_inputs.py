"""Reading models that an earlier stage wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rosita_core.model.checkpoint import load
from rosita_core.model.pretrained import Pretrained, has_classifier
from rosita_core.model.pretrained import load as load_pretrained
from rosita_core.training.label_unit import in_standard_scores
from tasks.execution.row_inputs import training_unit
from tasks.execution.stage_inputs import StageInputs

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


def model(work: StageInputs, role: str) -> RositaForSequenceClassification:
    """The model of the artifact in `role`, in eval mode."""
    return load(work.input(role))


def training_model(work: StageInputs, role: str) -> RositaForSequenceClassification:
    """`model` for a stage that trains: a regression's answers in standard scores."""
    return in_standard_scores(model(work, role), training_unit(work))


def pretrained_model(work: StageInputs, pretrained: Pretrained) -> RositaForSequenceClassification:
    """A pretrained model for a stage that trains.

    A new classifier answers in standard scores as it is.
    """
    unit = training_unit(work) if has_classifier(pretrained) else None
    return in_standard_scores(load_pretrained(pretrained), unit)
