"""Settings of trainings that are over in a moment; tests change what they are about."""

from __future__ import annotations

from rosita_core.compression.allocation.uniform import Uniform
from rosita_core.compression.criteria.taylor import Taylor
from rosita_core.compression.iterative import Choice, IterativePruning
from rosita_core.compression.schedule import PruneEvent
from rosita_core.distillation.objective import DistillationSettings
from rosita_core.distillation.objectives.predictions import Predictions
from rosita_core.distillation.objectives.states import States
from rosita_core.training.settings import TrainingSettings

TRAINING = TrainingSettings(
    learning_rate=1e-2,
    epochs=1,
    schedule="constant",
    warmup=0.0,
    batch_size=4,
    accumulate=1,
    max_length=16,
    weight_decay=0.01,
    clip_norm=1.0,
    clip_per_tensor=False,
    bias_correction=True,
    evaluations_per_epoch=1,
    patience=None,
    keep_best=False,
    dropout=None,
    drop_last=False,
    pad_to_max_length=False,
    seed=7,
)
"""One epoch at a constant rate; the last weights are returned."""

DISTILLATION = DistillationSettings(
    losses=(Predictions(temperature=1.0, average_over_classes=False), States(on_padding=False)),
    teacher_dropout=False,
    relu_teacher_head=False,
)
"""Predictions and hidden states, no fidelity switch."""

CHOICE = Choice(Taylor(), Uniform(first_layer_ranks_heads=False))
"""What ROSITA ranks by, and what it keeps."""


def pruning(
    events: tuple[PruneEvent, ...], reset_optimizer: bool = False
) -> tuple[IterativePruning, ...]:
    """The hooks of a training that prunes at `events`."""
    return (IterativePruning(events, CHOICE, reset_optimizer, ()),)
