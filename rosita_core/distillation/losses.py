"""Distillation losses of ROSITA: hidden states and predictions, weights 1 : 1, no attention loss.

Letters: B batch, T tokens, H hidden size, C outputs.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F


def prediction_loss(
    student_BC: torch.Tensor,
    teacher_BC: torch.Tensor,
    temperature: float,
    regression: bool,
    average_over_classes: bool,
) -> torch.Tensor:
    """Cross-entropy of the student with the teacher's probabilities; for regression MSE.

    Args:
        student_BC: student logits.
        teacher_BC: teacher logits.
        temperature: divides both logits; 1 in the paper.
        regression: C = 1 and the logits are the predictions themselves.
        average_over_classes: fidelity: the authors divide by C as well.
    """
    if regression:
        return F.mse_loss(student_BC.float(), teacher_BC.float())
    targets = F.softmax(teacher_BC.float() / temperature, dim=-1)
    loss = F.cross_entropy(student_BC.float() / temperature, targets)
    return loss / student_BC.shape[-1] if average_over_classes else loss


def hidden_loss(
    student: tuple[torch.Tensor, ...],
    teacher: tuple[torch.Tensor, ...],
    mapping: tuple[int, ...],
    mask_BT: torch.Tensor,
    on_padding: bool,
) -> torch.Tensor:
    """Sum over student hidden states l of MSE(student[l], teacher[mapping[l]]).

    Args:
        student, teacher: hidden states (B, T, H), embedding output first.
        mapping: one teacher index per student state.
        mask_BT: 1 for tokens, 0 for padding; padding does not count.
        on_padding: fidelity: the authors average over padding positions too.
    """
    mask_BT1 = mask_BT.unsqueeze(-1).float()
    positions = mask_BT.numel() if on_padding else mask_BT.sum()
    total = student[0].new_zeros((), dtype=torch.float32)
    for state, index in zip(student, mapping, strict=True):
        difference = state.float() - teacher[index].float()
        if not on_padding:
            difference = difference * mask_BT1
        total = total + difference.square().sum() / (positions * state.shape[-1])
    return total
