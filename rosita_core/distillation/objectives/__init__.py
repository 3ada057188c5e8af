"""What a student may learn from its teacher's outputs, one file per objective.

Letters: B batch, T tokens, H hidden size, L layers, C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch

from rosita_core.training.batches import Batch


@dataclass(frozen=True)
class Outputs:
    """What a model says of a batch.

    Attributes:
        logits: (B, C); C is 1 for regression.
        states: L + 1 hidden states (B, T, H), the embedding output first; empty where nobody
            reads them.
    """

    logits: torch.Tensor
    states: tuple[torch.Tensor, ...]


class DistillationLoss(Protocol):
    """One thing that is learned from a teacher."""

    reads_states: ClassVar[bool]
    """Whether it needs the hidden states of both."""

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        """Losses by name, such as loss_prediction. Their sum is minimized.

        Of a part of a batch, a loss is its share of the batch's: a mean over rows is multiplied by
        `batch.rows_share`, a mean over tokens by `batch.tokens_share`.
        """
