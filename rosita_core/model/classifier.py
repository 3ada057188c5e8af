"""What answers as our model does, in whatever format it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaConfig


class Classifier(Protocol):
    """From inputs (B, T) to an output with logits (B, C)."""

    config: RositaConfig
    training: bool

    def __call__(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
    ) -> Any:
        """An output with `logits`."""
