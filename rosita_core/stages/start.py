"""The pretrained model that the stages `teacher` and `student` start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rosita_core.model.pretrained import Pretrained, has_classifier, load
from rosita_core.training.answers import in_standard_scores
from rosita_core.training.label_unit import LabelUnit

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


def start(pretrained: Pretrained, unit: LabelUnit | None) -> RositaForSequenceClassification:
    """The pretrained model for a training in `unit`.

    A classifier of the checkpoint's own is taken to answer in labels; a new one answers in standard
    scores as it is. Raises what `load` raises.
    """
    return in_standard_scores(load(pretrained), unit if has_classifier(pretrained) else None)
