"""The student learns what the teacher predicts (ROSITA, prediction loss).

L = - sum over classes c of p_teacher(c) log p_student(c), averaged over the batch.

Letters: B batch, C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

from rosita_core.distillation.objectives import DistillationLoss, Outputs
from rosita_core.training.batches import Batch


@dataclass(frozen=True)
class Predictions(DistillationLoss):
    """Cross-entropy with the teacher's probabilities; for regression the mean squared error.

    Attributes:
        temperature: divides the logits of both; 1 in the paper.
        average_over_classes: fidelity: the authors divide the cross-entropy by C as well.
    """

    temperature: float
    average_over_classes: bool

    reads_states: ClassVar[bool] = False

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        """`loss_prediction`."""
        loss = prediction_loss(
            student.logits, teacher.logits, self.temperature, self.average_over_classes
        )
        return {"loss_prediction": loss * batch.rows_share}


def prediction_loss(
    student_BC: torch.Tensor,
    teacher_BC: torch.Tensor,
    temperature: float,
    average_over_classes: bool,
) -> torch.Tensor:
    """The loss of two sets of logits, a mean over rows. One output (C = 1) is a number."""
    if student_BC.shape[-1] == 1:
        return F.mse_loss(student_BC.float(), teacher_BC.float())
    targets = F.softmax(teacher_BC.float() / temperature, dim=-1)
    loss = F.cross_entropy(student_BC.float() / temperature, targets)
    return loss / student_BC.shape[-1] if average_over_classes else loss
