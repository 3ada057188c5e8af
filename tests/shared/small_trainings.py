"""Settings of trainings that are over in a moment; tests change what they are about."""

from __future__ import annotations

from rosita_core.distillation.objective import DistillationSettings
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
    reset_optimizer=False,
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
    hidden=True,
    temperature=1.0,
    hidden_on_padding=False,
    average_over_classes=False,
    teacher_dropout=False,
    relu_teacher_head=False,
)
"""Hidden states and predictions, no fidelity switch."""
