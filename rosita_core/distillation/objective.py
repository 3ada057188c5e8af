"""The objective of distillation: hidden states and predictions of a frozen teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from rosita_core.distillation.layer_mapping import map_layers
from rosita_core.distillation.losses import hidden_loss, prediction_loss
from rosita_core.model.checkpoint import placed
from rosita_core.model.modeling_rosita import RositaForSequenceClassification
from rosita_core.training.batches import Batch
from rosita_core.training.numerics import Numerics


@dataclass(frozen=True)
class DistillationSettings:
    """What is distilled and how.

    Attributes:
        hidden: learn the hidden states as well as the predictions.
        temperature: of the predictions.
        hidden_on_padding: fidelity: average the hidden loss over padding too.
        average_over_classes: fidelity: divide the prediction loss by the number of classes.
        teacher_dropout: fidelity: leave the teacher in train mode, so that its targets are noisy.
        relu_teacher_head: fidelity: teacher targets are classifier(relu(pooled)).
    """

    hidden: bool
    temperature: float
    hidden_on_padding: bool
    average_over_classes: bool
    teacher_dropout: bool
    relu_teacher_head: bool


def distillation_objective(
    teacher: RositaForSequenceClassification,
    settings: DistillationSettings,
    numerics: Numerics,
) -> Callable[[RositaForSequenceClassification, Batch], dict[str, torch.Tensor]]:
    """The loss L = sum over l of MSE(h_l student, h_l teacher) + L_pred, with its parts.

    The teacher is read on the device in eval mode and never trained; the one passed in keeps its
    mode and flags. The layer mapping follows the student, whose depth may shrink while it trains.
    Of a part of a batch, the losses are its share of the batch's.
    """
    teacher = placed(teacher, numerics.device).train(settings.teacher_dropout)
    teacher.requires_grad_(False)
    regression = teacher.config.problem_type == "regression"

    def objective(
        student: RositaForSequenceClassification, batch: Batch
    ) -> dict[str, torch.Tensor]:
        inputs = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
        with torch.no_grad():
            taught = teacher(*inputs, output_hidden_states=True)
            targets = taught.logits
            if settings.relu_teacher_head:
                pooled = teacher.bert.pooler(taught.hidden_states[-1])
                targets = teacher.classifier(F.relu(pooled))
        learned = student(*inputs, output_hidden_states=settings.hidden)
        prediction = prediction_loss(
            learned.logits,
            targets,
            settings.temperature,
            regression,
            settings.average_over_classes,
        )
        prediction = prediction * batch.rows_share
        if not settings.hidden:
            return {"loss": prediction, "loss_prediction": prediction}
        hidden = hidden_loss(
            learned.hidden_states,
            taught.hidden_states,
            map_layers(teacher.config.num_hidden_layers, student.config.num_hidden_layers),
            batch.attention_mask,
            settings.hidden_on_padding,
        )
        # A mean over positions: over tokens, or where padding counts over rows of equal length.
        hidden = hidden * (batch.rows_share if settings.hidden_on_padding else batch.tokens_share)
        return {
            "loss": hidden + prediction,
            "loss_hidden": hidden,
            "loss_prediction": prediction,
        }

    return objective
