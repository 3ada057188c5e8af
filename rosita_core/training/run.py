"""What a training is given beside its model and its settings."""

from __future__ import annotations

from dataclasses import dataclass

from rosita_core.data.encoding import Encoded
from rosita_core.data.framing import Framing
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.placement import Placement
from rosita_core.training.progress import Report


@dataclass(frozen=True)
class TrainingRun:
    """The rows of a training, where it computes, and who hears of it.

    Labels of a regression are standard scores of the task's training labels, as its models answer
    (`rosita_core.training.label_unit`).

    Attributes:
        rows: what the model learns from.
        selection: rows that choose the best weights; it never learns from them.
        framing: what stands around texts.
        placement: device, precision and group.
        report: called with losses, rates, scores and messages.
        checkpoints: where the training is written down, and where it goes on from.
    """

    rows: Encoded
    selection: Encoded
    framing: Framing
    placement: Placement
    report: Report
    checkpoints: Checkpoints
