"""Where and in which precision a kernel computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Numerics:
    """Resolved numerics of a run.

    Attributes:
        device: a torch device, such as "cpu" or "cuda:0".
        precision: "fp32", or "bf16" for autocast with weights kept in float32.
    """

    device: str
    precision: str

    def autocast(self) -> AbstractContextManager:
        """The context in which forward passes run."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)
