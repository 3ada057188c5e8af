"""Where, in which precision and with how many processes a kernel computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from rosita_core.training.group import ALONE, Group


@dataclass(frozen=True)
class Placement:
    """Where a kernel computes, and how exactly.

    Attributes:
        device: a torch device, such as "cpu" or "cuda:0".
        precision: "fp32", or "bf16" for autocast with weights kept in float32.
        group: the processes that train together.
    """

    device: str
    precision: str
    group: Group = ALONE

    def autocast(self) -> AbstractContextManager:
        """The context in which forward passes run."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)
