"""Trainings that a test runs in one process and in two: each is what a task would hand over."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from small_trainings import CHOICE, DISTILLATION, TRAINING, pruning
from transformers import BertTokenizerFast

from rosita_core.compression.iterative import IterativePruning
from rosita_core.compression.schedule import at_equal_distances, width_targets
from rosita_core.data.encoding import Encoded, encode
from rosita_core.data.framing import Framing, Template
from rosita_core.distillation.kept import read_kept
from rosita_core.distillation.objective import distillation_objective
from rosita_core.distillation.objectives.predictions import Predictions
from rosita_core.distillation.objectives.states import States
from rosita_core.measuring.score import Scoring, selection_scorer
from rosita_core.model.checkpoint import fresh, shape_of
from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification
from rosita_core.stages.one_step import OneStepSettings, prune_one_step
from rosita_core.stages.targets import TargetsSettings, keep_targets
from rosita_core.training.checkpoints import Checkpoints, NoCheckpoints
from rosita_core.training.hard_labels import hard_label_objective
from rosita_core.training.loop import Objective, Trained, train
from rosita_core.training.placement import Placement
from rosita_core.training.progress import Progress
from rosita_core.training.run import TrainingRun
from rosita_core.training.settings import TrainingSettings
from tasks.execution.stage_inputs import StageInputs

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", *"abcdefghijklmnopqrstuvwxyz"]
# 29 rows in batches of 4: the last batch has one row, which only one of two processes gets.
ROWS = 29
SINGLE = Template(((2,), (3,)), ((0,), (0,)), (0,))
PAIR = Template(((2,), (3,), (3,)), ((0,), (0,), (1,)), (0, 1))
FRAMING = Framing(SINGLE, PAIR, pad=0, keep_end=False)
SCORING = Scoring(("accuracy",), "accuracy", False, 8, 16)
SETTINGS = replace(
    TRAINING,
    learning_rate=5e-3,
    epochs=2,
    schedule="linear",
    warmup=0.2,
    # A report, and with it the mean loss, at every step.
    evaluations_per_epoch=8,
)
KEPT = "kept"
SOFTER = replace(DISTILLATION, losses=(Predictions(2.0, False), States(False)))


def write_rows(folder: Path) -> None:
    """Sentences of unequal lengths; the label says which of two words is there."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, ROWS)
    texts = [
        " ".join([*random.choice(WORDS[7:], random.integers(1, 12)), WORDS[5 + label]])
        for label in labels
    ]
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(WORDS)})
    frame = pd.DataFrame({"text_a": texts, "label": labels})
    encode([frame], tokenizer, folder / "rows.arrow")


def write_kept(folder: Path) -> None:
    """What the teacher of `several` says of the rows, as the stage keeps it."""
    (folder / KEPT).mkdir()
    keep_targets(
        *(model(0, 0.0), Encoded(folder / "rows.arrow"), FRAMING),
        TargetsSettings((0, 1, 2), None, SETTINGS.max_length, False),
        *(Placement("cpu", "fp32"), folder / KEPT, lambda _: None, NoCheckpoints()),
    )


def model(seed: int, dropout: float, layers: int = 2) -> RositaForSequenceClassification:
    """A tiny one whose heads and units differ in what they do."""
    config = RositaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        head_size=4,
        layer_heads=[4] * layers,
        layer_ffn_units=[12] * layers,
        max_position_embeddings=32,
        initializer_range=0.3,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        problem_type="single_label_classification",
    )
    return fresh(config, seed)


def run(
    work: StageInputs,
    placement: Placement,
    checkpoints: Checkpoints,
    objective: Objective,
    student: RositaForSequenceClassification,
    settings: TrainingSettings,
    prunes: int,
) -> dict[str, Any]:
    """One training; what it reported of every step, and what it ended with."""
    rows = Encoded(Path(work.context.home) / "rows.arrow")
    steps = round(settings.epochs * 8 / settings.accumulate)
    hooks: tuple[IterativePruning, ...] = ()
    if prunes:
        targets = width_targets(shape_of(student.config), 2, 5, 6, prunes)
        hooks = pruning(at_equal_distances(targets, steps, 0.6))
    reports: list[Progress] = []
    given = TrainingRun(rows, rows, FRAMING, placement, reports.append, checkpoints)
    score = selection_scorer(given, SCORING)
    trained = train(student, settings, objective, given, score, hooks)
    return facts(trained, reports)


def facts(trained: Trained, reports: list[Progress]) -> dict[str, Any]:
    return {
        "trained": trained,
        "metrics": {r.step: r.metrics for r in reports if r.phase is None and r.metrics},
        "messages": [r.message for r in reports],
    }


def several(work: StageInputs, placement: Placement, checkpoints: Checkpoints) -> dict[str, Any]:
    """Trainings without dropout, whose numbers are those of one process; and one with it."""
    teacher, student = model(0, 0.0), model(1, 0.0)
    padded = replace(SOFTER, losses=(Predictions(2.0, True), States(True)))

    def one(objective: Objective, prunes: int = 0, **changes: Any) -> dict[str, Any]:
        settings = replace(SETTINGS, **changes)
        return run(work, placement, NoCheckpoints(), objective, student, settings, prunes)

    taught = distillation_objective(teacher, SOFTER, placement)
    said = read_kept(Path(work.context.home) / KEPT)
    kept = distillation_objective(teacher, SOFTER, placement, said)
    return {
        "kept": one(kept, prunes=2),
        "kept and accumulated": one(kept, prunes=2, accumulate=2, batch_size=2, epochs=1),
        "hard labels": one(hard_label_objective),
        "distilled and pruned": one(taught, prunes=2),
        "accumulated": one(taught, prunes=2, accumulate=2, batch_size=2, epochs=1),
        "authors": one(
            distillation_objective(teacher, padded, placement),
            prunes=2,
            bias_correction=False,
            clip_per_tensor=True,
            pad_to_max_length=True,
        ),
        "one step": one_step(work, placement),
        "dropout": with_dropout(work, placement, NoCheckpoints()),
        "group": placement.group,
    }


def one_step(work: StageInputs, placement: Placement) -> dict[str, Any]:
    rows = Encoded(Path(work.context.home) / "rows.arrow")
    teacher, source = model(0, 0.0, layers=3), model(1, 0.0, layers=3)
    settings = OneStepSettings(
        start_layers=(0, 2),
        keep_heads=2,
        ffn_units=5,
        embedding_rank=6,
        criterion=CHOICE.criterion,
        allocation=CHOICE.allocation,
        ranking=replace(SOFTER, losses=SOFTER.losses[:1]),
        update_while_ranking=True,
        training=SETTINGS,
        distillation=SOFTER,
        scoring=SCORING,
    )
    reports: list[Progress] = []
    given = TrainingRun(rows, rows, FRAMING, placement, reports.append, NoCheckpoints())
    trained = prune_one_step(source, teacher, teacher, rows, settings, given)
    return facts(trained, reports)


def with_dropout(
    work: StageInputs, placement: Placement, checkpoints: Checkpoints
) -> dict[str, Any]:
    """A training that prunes three times, with dropout of its own in every process."""
    student = model(2, 0.2)
    objective = distillation_objective(student, SOFTER, placement)
    return run(work, placement, checkpoints, objective, student, SETTINGS, 3)


def killed(work: StageInputs, placement: Placement, checkpoints: Checkpoints) -> None:
    """Every process but the first is killed in its third step."""
    calls = 0

    def objective(student: RositaForSequenceClassification, batch: Any) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if placement.group.rank and calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return hard_label_objective(student, batch)

    run(work, placement, checkpoints, objective, model(1, 0.0), SETTINGS, 0)


def refused(work: StageInputs, placement: Placement, checkpoints: Checkpoints) -> None:
    """Another process finds something wrong."""
    if placement.group.rank:
        raise ValueError("rows must be there, got none")
    run(work, placement, checkpoints, hard_label_objective, model(1, 0.0), SETTINGS, 0)
