"""What may happen inside a training beside the steps: a hook sees them and may change the model.

The training knows hooks by these two protocols alone. Pruning while training is one of them:
`rosita_core.compression.iterative`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from rosita_core.training.group import Group

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


class InTraining(Protocol):
    """A training, as its hooks see it between two steps."""

    model: RositaForSequenceClassification
    optimizer: torch.optim.Optimizer
    group: Group

    def take(self, model: RositaForSequenceClassification) -> None:
        """Go on with another model and a new optimizer, which remembers nothing."""


class ActiveHook(Protocol):
    """A hook inside one training. What it does not need to do, it leaves as it is here."""

    @property
    def changing(self) -> bool:
        """Whether it will still change the model.

        Until no hook will, the model keeps its own dropout, and no weights are the best ones.
        """
        return False

    def gradients_ready(self, model: RositaForSequenceClassification) -> None:
        """Called in every step, with the gradients of the whole batch and before clipping."""
        return

    def step_done(self, step: int, training: InTraining) -> str | None:
        """Called after optimizer step `step`, from 1. Returns a line where it did something."""
        return None

    def write(self, folder: Path) -> dict[str, Any]:
        """Write tensors into an empty folder; returns the rest, as JSON-able values."""
        return {}

    def read(self, folder: Path, values: dict[str, Any], device: str) -> None:
        """Become what `write` wrote."""

    def documents(self) -> Mapping[str, Any]:
        """What to keep beside the weights: name -> JSON-able document."""
        return {}


class Hook(Protocol):
    """What a kernel hands to a training; it is not changed and serves any number of trainings."""

    def begin(self, model: RositaForSequenceClassification, steps: int) -> ActiveHook:
        """The hook inside a training of `model` that takes `steps` steps.

        Raises:
            ValueError: where the steps do not suffice.
        """
