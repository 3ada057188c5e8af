"""The student learns the teacher's hidden states (ROSITA, hidden loss).

L = sum over student states l of MSE(h_l student, h_m(l) teacher), with m of `map_layers`.

Letters: B batch, T tokens, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.autograd.function import once_differentiable

from rosita_core.distillation.layer_mapping import map_layers
from rosita_core.distillation.objectives import DistillationLoss, Outputs
from rosita_core.training.batches import Batch


@dataclass(frozen=True)
class States(DistillationLoss):
    """Mean squared error of the mapped states. The layer mapping follows the student's depth.

    Attributes:
        on_padding: fidelity: the authors average over padding positions too.
    """

    on_padding: bool

    reads_states: ClassVar[bool] = True

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        """`loss_hidden`."""
        mapping = map_layers(len(teacher.states) - 1, len(student.states) - 1)
        loss = hidden_loss(
            student.states, teacher.states, mapping, batch.attention_mask, self.on_padding
        )
        # A mean over positions: over tokens, or where padding counts over rows of equal length.
        share = batch.rows_share if self.on_padding else batch.tokens_share
        return {"loss_hidden": loss * share}


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
        on_padding: padding counts like tokens.
    """
    counted_BT1 = None if on_padding else mask_BT.unsqueeze(-1).float()
    positions = mask_BT.numel() if on_padding else mask_BT.sum()
    total = student[0].new_zeros((), dtype=torch.float32)
    for state, index in zip(student, mapping, strict=True):
        squares = _SquaredError.apply(state, teacher[index], counted_BT1)
        total = total + squares / (positions * state.shape[-1])
    return total


class _SquaredError(torch.autograd.Function):
    """Sum of squared differences, of what is counted: three passes over the states and one back,
    where autograd has four and five."""

    @staticmethod
    def forward(
        ctx: Any,
        state_BTH: torch.Tensor,
        target_BTH: torch.Tensor,
        counted_BT1: torch.Tensor | None,
    ) -> torch.Tensor:
        difference_BTH = state_BTH.float() - target_BTH.float()
        if counted_BT1 is not None:
            difference_BTH *= counted_BT1
        ctx.save_for_backward(difference_BTH)
        ctx.dtype = state_BTH.dtype
        flat = difference_BTH.reshape(-1)
        return flat.dot(flat)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (difference_BTH,) = ctx.saved_tensors
        return (difference_BTH * (2 * gradient)).to(ctx.dtype), None, None
