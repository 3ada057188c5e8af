"""How a model is trained: the settings of the loop, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass

from rosita_core.training.batches import SHORTEST
from rosita_core.training.optimizer import SCHEDULES


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained.

    Attributes:
        learning_rate: peak rate.
        epochs: passes over the data; may be a fraction.
        schedule: "constant" or "linear" (decay to zero).
        warmup: fraction of all steps in which the rate rises.
        batch_size: rows per mini-batch.
        accumulate: mini-batches per optimizer step.
        max_length: tokens per sequence, special tokens included.
        weight_decay: decoupled, not on biases and LayerNorm.
        clip_norm: largest gradient norm.
        clip_per_tensor: fidelity: clip each tensor on its own.
        bias_correction: False is fidelity: the authors' BertAdam.
        evaluations_per_epoch: how often the model is scored.
        patience: stop after so many epochs without better weights; None for never. Counted only
            once no hook will change the model any more.
        keep_best: return the best weights and not the last; of those, too, only once no hook will
            change the model any more.
        dropout: every dropout rate of the model once no hook will change it any more, since a small
            student under a teacher underfits; before that the model's own, without which a student
            that still equals its teacher has no gradient. None leaves the model's own.
        drop_last: fidelity: leave out the last partial batch.
        pad_to_max_length: fidelity: pad every batch to max_length.
        seed: of the data order and of dropout.
    """

    learning_rate: float
    epochs: float
    schedule: str
    warmup: float
    batch_size: int
    accumulate: int
    max_length: int
    weight_decay: float
    clip_norm: float
    clip_per_tensor: bool
    bias_correction: bool
    evaluations_per_epoch: float
    patience: float | None
    keep_best: bool
    dropout: float | None
    drop_last: bool
    pad_to_max_length: bool
    seed: int

    def __post_init__(self) -> None:
        for field in ("clip_norm", "evaluations_per_epoch"):
            if not getattr(self, field) > 0:
                raise ValueError(f"{field} must be above 0, got {getattr(self, field)}")
        for field, least in (("batch_size", 1), ("accumulate", 1), ("max_length", SHORTEST)):
            if getattr(self, field) < least:
                raise ValueError(f"{field} must be at least {least}, got {getattr(self, field)}")
        for field in ("epochs", "learning_rate", "weight_decay"):
            if not getattr(self, field) >= 0:
                raise ValueError(f"{field} must be at least 0, got {getattr(self, field)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {SCHEDULES}, got {self.schedule!r}")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup must be in [0, 1], got {self.warmup}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.patience is not None and not self.patience > 0:
            raise ValueError(f"patience must be above 0 epochs, got {self.patience}")
