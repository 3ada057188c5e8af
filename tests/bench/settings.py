"""A training for benchmarks of what surrounds it."""

from __future__ import annotations

from rosita_core.training.settings import TrainingSettings

TRAINING = TrainingSettings(
    learning_rate=1e-5,
    epochs=1,
    schedule="constant",
    warmup=0.0,
    batch_size=32,
    accumulate=1,
    max_length=64,
    weight_decay=0.01,
    clip_norm=1.0,
    clip_per_tensor=False,
    bias_correction=True,
    reset_optimizer=False,
    evaluations_per_epoch=1,
    patience=None,
    keep_best=True,
    dropout=None,
    drop_last=False,
    pad_to_max_length=False,
    seed=42,
)
