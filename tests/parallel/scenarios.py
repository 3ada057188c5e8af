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
from rosita_core.training.numerics import Numerics
from small_trainings import DISTILLATION, TRAINING
from transformers import BertTokenizerFast

from rosita_core.compression.schedule import spread, width_targets
from rosita_core.data.encoding import Encoded, SpecialTokens, encode
from rosita_core.distillation.objective import distillation_objective
from rosita_core.measuring.score import Scoring, scorer
from rosita_core.model.checkpoint import fresh, shape_of
from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification
from rosita_core.stages.one_step import OneStepSettings, prune_one_step
from rosita_core.training.checkpoints import Checkpoints, NoCheckpoints
from rosita_core.training.hard_labels import hard_label_objective
from rosita_core.training.loop import Objective, Trained, train
from rosita_core.training.progress import Progress
from rosita_core.training.settings import TrainingSettings
from tasks.execution.stage_inputs import StageInputs

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", *"abcdefghijklmnopqrstuvwxyz"]
# 29 rows in batches of 4: the last batch has one row, which only one of two processes gets.
ROWS = 29
SPECIAL = SpecialTokens(cls=2, sep=3, pad=0)
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
SOFTER = replace(DISTILLATION, temperature=2.0)


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
    numerics: Numerics,
    checkpoints: Checkpoints,
    objective: Objective,
    student: RositaForSequenceClassification,
    settings: TrainingSettings,
    prunes: int,
) -> dict[str, Any]:
    """One training; what it reported of every step, and what it ended with."""
    rows = Encoded(Path(work.context.home) / "rows.arrow")
    steps = round(settings.epochs * 8 / settings.accumulate)
    events = ()
    if prunes:
        targets = width_targets(shape_of(student.config), 2, 5, 6, prunes)
        events = spread(targets, steps, 0.6)
    reports: list[Progress] = []
    trained = train(
        student,
        rows,
        SPECIAL,
        settings,
        objective,
        (),
        events,
        False,
        scorer(rows, SCORING, SPECIAL, numerics),
        numerics,
        reports.append,
        checkpoints,
    )
    return facts(trained, reports)


def facts(trained: Trained, reports: list[Progress]) -> dict[str, Any]:
    return {
        "trained": trained,
        "metrics": {r.step: r.metrics for r in reports if r.phase is None and r.metrics},
        "messages": [r.message for r in reports],
    }


def several(work: StageInputs, numerics: Numerics, checkpoints: Checkpoints) -> dict[str, Any]:
    """Trainings without dropout, whose numbers are those of one process; and one with it."""
    teacher, student = model(0, 0.0), model(1, 0.0)
    padded = replace(SOFTER, hidden_on_padding=True, average_over_classes=True)

    def one(objective: Objective, prunes: int = 0, **changes: Any) -> dict[str, Any]:
        settings = replace(SETTINGS, **changes)
        return run(work, numerics, NoCheckpoints(), objective, student, settings, prunes)

    taught = distillation_objective(teacher, SOFTER, numerics)
    return {
        "hard labels": one(hard_label_objective),
        "distilled and pruned": one(taught, prunes=2),
        "accumulated": one(taught, prunes=2, accumulate=2, batch_size=2, epochs=1),
        "authors": one(
            distillation_objective(teacher, padded, numerics),
            prunes=2,
            bias_correction=False,
            clip_per_tensor=True,
            pad_to_max_length=True,
        ),
        "one step": one_step(work, numerics),
        "dropout": with_dropout(work, numerics, NoCheckpoints()),
        "group": numerics.group,
    }


def one_step(work: StageInputs, numerics: Numerics) -> dict[str, Any]:
    rows = Encoded(Path(work.context.home) / "rows.arrow")
    teacher, source = model(0, 0.0, layers=3), model(1, 0.0, layers=3)
    settings = OneStepSettings(
        start_layers=(0, 2),
        keep_heads=2,
        ffn_units=5,
        embedding_rank=6,
        rank_by="distillation",
        update_while_ranking=True,
        first_layer_ranks_heads=False,
        training=SETTINGS,
        distillation=SOFTER,
        scoring=SCORING,
    )
    reports: list[Progress] = []
    given = (rows, rows, rows, SPECIAL, settings, numerics)
    trained = prune_one_step(source, teacher, teacher, *given, reports.append, NoCheckpoints())
    return facts(trained, reports)


def with_dropout(work: StageInputs, numerics: Numerics, checkpoints: Checkpoints) -> dict[str, Any]:
    """A training that prunes three times, with dropout of its own in every process."""
    student = model(2, 0.2)
    objective = distillation_objective(student, SOFTER, numerics)
    return run(work, numerics, checkpoints, objective, student, SETTINGS, 3)


def killed(work: StageInputs, numerics: Numerics, checkpoints: Checkpoints) -> None:
    """Every process but the first is killed in its third step."""
    calls = 0

    def objective(student: RositaForSequenceClassification, batch: Any) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if numerics.group.rank and calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return hard_label_objective(student, batch)

    run(work, numerics, checkpoints, objective, model(1, 0.0), SETTINGS, 0)


def refused(work: StageInputs, numerics: Numerics, checkpoints: Checkpoints) -> None:
    """Another process finds something wrong."""
    if numerics.group.rank:
        raise ValueError("rows must be there, got none")
    run(work, numerics, checkpoints, hard_label_objective, model(1, 0.0), SETTINGS, 0)
