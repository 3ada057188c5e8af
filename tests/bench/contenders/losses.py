"""The two losses as one would write them by hand: what a contender without losses of its own uses.

Letters: B batch, T tokens, H hidden size, C outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F


def distilled(learned: Any, taught: Any, mask_BT: torch.Tensor) -> torch.Tensor:
    """Mean squared error of every hidden state over tokens, and cross-entropy of predictions.

    Args:
        learned, taught: outputs of a model, with hidden states (B, T, H) and logits (B, C).
        mask_BT: 1 for tokens.
    """
    weight_BT1 = mask_BT.unsqueeze(-1).float()
    entries = mask_BT.sum() * learned.hidden_states[0].shape[-1]
    loss = F.cross_entropy(learned.logits.float(), taught.logits.float().softmax(-1))
    for ours, theirs in zip(learned.hidden_states, taught.hidden_states, strict=True):
        error = F.mse_loss(ours.float(), theirs.float(), reduction="none")
        loss = loss + (error * weight_BT1).sum() / entries
    return loss
