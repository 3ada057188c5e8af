"""The objective of distillation: what a frozen teacher says of each batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from rosita_core.distillation.kept import KeptOutputs
from rosita_core.distillation.objectives import DistillationLoss, Outputs
from rosita_core.model.checkpoint import placed
from rosita_core.training.batches import Batch
from rosita_core.training.placement import Placement

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


@dataclass(frozen=True)
class DistillationSettings:
    """What is distilled and how.

    Attributes:
        losses: what the student learns; their sum is minimized. Predictions and hidden states in
            the paper, weights 1 : 1.
        teacher_dropout: fidelity: leave the teacher in train mode, so that its targets are noisy.
        relu_teacher_head: fidelity: teacher targets are classifier(relu(pooled)).
    """

    losses: tuple[DistillationLoss, ...]
    teacher_dropout: bool
    relu_teacher_head: bool

    def __post_init__(self) -> None:
        if not self.losses:
            raise ValueError("losses must be at least one, got none")

    @property
    def reads_states(self) -> bool:
        """Whether hidden states are learned, of teacher and student."""
        return any(loss.reads_states for loss in self.losses)


def distillation_objective(
    teacher: RositaForSequenceClassification,
    settings: DistillationSettings,
    placement: Placement,
    kept: KeptOutputs | None = None,
) -> Callable[[RositaForSequenceClassification, Batch], dict[str, torch.Tensor]]:
    """The sum of the losses, named "loss", and each of them under its own name; to be called within
    `placement.autocast`.

    The teacher is read on the device in eval mode and never trained; the one passed in keeps its
    mode and flags. Where what it says of the rows is `kept`, it is not computed. Of a part of a
    batch, the losses are its share of the batch's.

    Example, with predictions and hidden states: {"loss": 1.1, "loss_prediction": 0.7,
    "loss_hidden": 0.4}.
    """
    teach = _computing(teacher, settings, placement) if kept is None else kept

    def objective(
        student: RositaForSequenceClassification, batch: Batch
    ) -> dict[str, torch.Tensor]:
        taught = teach(batch)
        learned = _outputs(student, batch, settings.reads_states)
        named: dict[str, torch.Tensor] = {}
        for loss in settings.losses:
            named |= loss.losses(learned, taught, batch)
        return {"loss": reduce(torch.add, named.values()), **named}

    return objective


def _computing(
    teacher: RositaForSequenceClassification, settings: DistillationSettings, placement: Placement
) -> Callable[[Batch], Outputs]:
    teacher = frozen(teacher, placement).train(settings.teacher_dropout)
    relu_head, states = settings.relu_teacher_head, settings.reads_states
    return partial(teacher_outputs, teacher, relu_head=relu_head, states=states)


def frozen(
    teacher: RositaForSequenceClassification, placement: Placement
) -> RositaForSequenceClassification:
    """A teacher on the device, in its mode, that takes no gradients and is not to be saved.

    What autocast would cast in every batch is cast once, the weights of matrix products, so that in
    bf16 it answers within `placement.autocast` alone.
    """
    teacher = placed(teacher, placement.device).requires_grad_(False)
    if placement.precision == "bf16":
        for module in teacher.modules():
            # The answers of a regression are float32's, see the model's own `answers`.
            exact = module is teacher.classifier and teacher.num_labels == 1
            if isinstance(module, nn.Linear) and not exact:
                module.to(torch.bfloat16)
    return teacher


def _outputs(model: RositaForSequenceClassification, batch: Batch, states: bool) -> Outputs:
    found = model(
        batch.input_ids, batch.attention_mask, batch.token_type_ids, output_hidden_states=states
    )
    return Outputs(found.logits, found.hidden_states or ())


@torch.no_grad()
def teacher_outputs(
    teacher: RositaForSequenceClassification, batch: Batch, relu_head: bool, states: bool
) -> Outputs:
    """What a teacher says of a batch on its device.

    Args:
        teacher: in the mode that it shall have.
        batch: of its device.
        relu_head: see `DistillationSettings.relu_teacher_head`.
        states: whether all hidden states are among it.
    """
    if not relu_head:
        return _outputs(teacher, batch, states)
    encoded = teacher.bert(
        batch.input_ids,
        batch.attention_mask,
        batch.token_type_ids,
        output_hidden_states=states,
        first_only=True,
    )
    logits = teacher.answers(F.relu(encoded.pooler_output))
    return Outputs(logits, encoded.hidden_states or ())
