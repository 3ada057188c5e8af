"""Predictions of a model on encoded rows, and what they are worth.

Letters: N rows, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from rosita_core.data.encoding import Encoded
from rosita_core.data.framing import Framing
from rosita_core.measuring.metrics import choice_of_numbers, compute_metrics
from rosita_core.model.classifier import Classifier
from rosita_core.training.batches import ordered_batches
from rosita_core.training.placement import Placement
from rosita_core.training.progress import CHOICE
from rosita_core.training.run import TrainingRun

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


@dataclass(frozen=True)
class Scoring:
    """How a task is scored.

    Attributes:
        metrics: names known to `compute_metrics`.
        score: the one of them that compares models.
        regression: whether predictions are numbers.
        batch_size: rows at a time.
        max_length: tokens per sequence.
    """

    metrics: tuple[str, ...]
    score: str
    regression: bool
    batch_size: int
    max_length: int


def predict_logits(
    model: Classifier,
    data: Encoded,
    batch_size: int,
    max_length: int,
    framing: Framing,
    placement: Placement,
) -> np.ndarray:
    """Logits (N, C), float32, in the order of the rows; `model` must be in eval mode.

    The processes of a group take turns in computing a batch; each gets all logits.
    """
    if model.training:
        raise ValueError("model must be in eval mode to predict, got train mode")
    group = placement.group
    computed: list[tuple[np.ndarray, torch.Tensor]] = []
    with torch.inference_mode(), placement.autocast():
        batches = ordered_batches(data, batch_size, max_length, framing)
        for number, (rows, batch) in enumerate(batches):
            if number % group.size != group.rank:
                continue
            on_device = batch.to(placement.device)
            output = model(on_device.input_ids, on_device.attention_mask, on_device.token_type_ids)
            computed.append((rows, output.logits.float()))
    # Where another process has the numbers there are zeros here.
    logits_NC = np.zeros((len(data), model.config.outputs), np.float32)
    for rows, logits in computed:
        if logits.shape != (len(rows), model.config.outputs):
            raise ValueError(
                f"model must answer {model.config.outputs} numbers a row, as its classes, "
                f"got {tuple(logits.shape)} for {len(rows)} rows"
            )
        logits_NC[rows] = logits.cpu().numpy()
    group.add_up([torch.from_numpy(logits_NC)])
    return logits_NC


def predictions_of(logits_NC: np.ndarray, regression: bool) -> np.ndarray:
    """Class indices (N,) or, for regression, numbers (N,)."""
    return logits_NC[:, 0] if regression else logits_NC.argmax(1)


def score_logits(logits_NC: np.ndarray, labels: np.ndarray, scoring: Scoring) -> dict[str, float]:
    """The task's metrics, and the deciding one again as "score"."""
    predictions = predictions_of(logits_NC, scoring.regression)
    metrics = compute_metrics(scoring.metrics, predictions, labels)
    return {"score": metrics[scoring.score], **metrics}


def selection_scorer(
    run: TrainingRun, scoring: Scoring
) -> Callable[[RositaForSequenceClassification], dict[str, float]]:
    """A function from a model to its metrics on the rows that choose the best weights."""
    return scorer(run.selection, scoring, run.framing, run.placement)


def scorer(
    data: Encoded, scoring: Scoring, framing: Framing, placement: Placement
) -> Callable[[RositaForSequenceClassification], dict[str, float]]:
    """A function from a model to its metrics on `data`."""

    def score(model: RositaForSequenceClassification) -> dict[str, float]:
        logits = predict_logits(
            model, data, scoring.batch_size, scoring.max_length, framing, placement
        )
        if not np.isfinite(logits).all():
            # argmax would turn them into class 0 without a word.
            raise ValueError(
                f"model must answer finite numbers on the {len(data):,} selection rows, "
                f"got others for {np.count_nonzero(~np.isfinite(logits).all(1)):,} of them"
            )
        found = score_logits(logits, data.labels, scoring)
        if scoring.regression:
            found[CHOICE] = choice_of_numbers(found["score"], logits[:, 0], data.labels)
        return found

    return score
