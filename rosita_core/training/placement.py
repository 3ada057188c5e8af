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

    def random_state_kept(self) -> AbstractContextManager:
        """A block after which random numbers, on the CPU and on the device, go on as before it."""
        cuda = torch.device(self.device).type == "cuda"
        return torch.random.fork_rng([torch.device(self.device)] if cuda else [])

    def autocast(self) -> AbstractContextManager:
        """The context in which forward passes run."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)
