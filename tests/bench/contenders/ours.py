"""This project's loop with its losses; the teacher is computed for every batch."""

from __future__ import annotations

from dataclasses import replace

from rosita_core.distillation.kept import KeptOutputs
from rosita_core.distillation.objective import distillation_objective
from rosita_core.training.checkpoints import NoCheckpoints
from rosita_core.training.loop import train as train_model
from rosita_core.training.placement import Placement
from rosita_core.training.run import TrainingRun
from tests.bench.contenders import (
    BATCH,
    CLIP,
    DEVICE,
    LEARNING_RATE,
    MAX_LENGTH,
    WEIGHT_DECAY,
    Material,
)
from tests.shared.small_trainings import DISTILLATION, TRAINING

TITLE = "this project, teacher computed"
SETTINGS = replace(
    TRAINING,
    learning_rate=LEARNING_RATE,
    batch_size=BATCH,
    max_length=MAX_LENGTH,
    weight_decay=WEIGHT_DECAY,
    clip_norm=CLIP,
)


def precision(native: str) -> str:
    return native


def train(material: Material) -> dict[str, float]:
    distil(material, None)
    return {}


def distil(material: Material, kept: KeptOutputs | None) -> None:
    """One epoch, with what the teacher says of the rows computed or `kept`."""
    placement, rows = Placement(DEVICE, material.precision), material.rows
    run = TrainingRun(
        *(rows, rows, material.framing, placement),
        *(lambda _: None, NoCheckpoints()),
    )
    objective = distillation_objective(material.teacher(), DISTILLATION, placement, kept)
    train_model(material.student(), SETTINGS, objective, run, lambda _: {"score": 0.0})
