"""The objective of fine-tuning: the task's own labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from rosita_core.training.batches import Batch

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


def hard_label_objective(
    model: RositaForSequenceClassification, batch: Batch
) -> dict[str, torch.Tensor]:
    """Cross-entropy with the labels; for regression (float labels) the mean squared error.

    Of a part of a batch, its share of the batch's loss.
    """
    output = model(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    if batch.labels.is_floating_point():
        loss = F.mse_loss(output.logits.squeeze(-1).float(), batch.labels)
    else:
        loss = F.cross_entropy(output.logits.float(), batch.labels)
    return {"loss": loss * batch.rows_share}
