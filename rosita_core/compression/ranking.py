"""Importance of a finished model over one epoch of rows, for pruning in one step."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rosita_core.compression.criteria import Criterion, Totals
from rosita_core.compression.importance import Importance
from rosita_core.model.checkpoint import copied, placed, shape_of
from rosita_core.training.batches import batches_per_epoch, collate, shuffled_batches
from rosita_core.training.checkpoints import (
    read_state,
    read_tensors,
    write_state,
    write_tensors,
)
from rosita_core.training.loop import SEEDS_APART, Objective
from rosita_core.training.optimizer import (
    build_optimizer,
    clip_gradients,
    gradients,
    named_moments,
    set_moments,
)
from rosita_core.training.progress import Progress
from rosita_core.training.run import TrainingRun
from rosita_core.training.settings import TrainingSettings

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

PHASE = "ranking"
TOTALS, MODEL, MOMENTS = (f"{name}.safetensors" for name in ("totals", "model", "moments"))
BATCHES_PER_REPORT = 20


def rank(
    source: RositaForSequenceClassification,
    criterion: Criterion,
    settings: TrainingSettings,
    update_while_ranking: bool,
    objective: Objective,
    run: TrainingRun,
) -> Importance:
    """Importance of `source` in eval mode over one epoch of the run's rows, on the CPU.

    A criterion that needs no gradients reads no row. The processes of a group each compute a part
    of every batch, and rank the same.

    Args:
        source: it is not changed.
        criterion: what heads and units are worth.
        settings: batches, seed and, for `update_while_ranking`, the optimizer.
        update_while_ranking: fidelity, see `OneStepSettings`.
        objective: whose loss the gradients are of.
        run: rows, where to compute, reports, and checkpoints: it goes on from one whose phase is
            "ranking".
    """
    model = placed(source, run.placement.device)
    if criterion.needs_gradients:
        totals = _totals(source, criterion, settings, update_while_ranking, objective, run)
    else:
        totals = criterion.begin(model)
    ranking = criterion.score(model, totals)
    run.placement.group.share((*ranking.heads, *ranking.ffn_units))
    return ranking.to("cpu")


def is_ranking(folder: Path) -> bool:
    """Whether a checkpoint was written by `rank`, and not by the training after it."""
    return read_state(folder).get("phase") == PHASE


def _totals(
    source: RositaForSequenceClassification,
    criterion: Criterion,
    settings: TrainingSettings,
    update_while_ranking: bool,
    objective: Objective,
    run: TrainingRun,
) -> Totals:
    """What the criterion sums over one epoch."""
    rows, placement, s = run.rows, run.placement, settings
    model = copied(source, placement.device).eval()
    optimizer = build_optimizer(model, s.learning_rate, s.weight_decay, s.bias_correction)
    totals, done = criterion.begin(model), 0
    if (folder := run.checkpoints.latest()) is not None and is_ranking(folder):
        done = read_state(folder)["batches"]
        totals = read_tensors(folder / TOTALS, placement.device)
        model.load_state_dict(read_tensors(folder / MODEL, placement.device))
        set_moments(optimizer, model, read_tensors(folder / MOMENTS, placement.device))
    batches = shuffled_batches(rows.lengths, s.batch_size, s.drop_last, s.seed, 0)
    total = batches_per_epoch(len(rows), s.batch_size, s.drop_last)
    with placement.random_state_kept():
        for number, indices in enumerate(batches[done:], start=done + 1):
            # A teacher left in train mode (fidelity) draws dropout.
            torch.manual_seed(placement.group.seed(s.seed * SEEDS_APART + number))
            batch = collate(rows, indices, s.max_length, run.framing, s.pad_to_max_length)
            with placement.autocast():
                loss = objective(model, placement.group.part(batch).to(placement.device))["loss"]
            loss.backward()
            placement.group.add_up(gradients(model))
            totals = criterion.accumulate(totals, model)
            if update_while_ranking:
                clip_gradients(model, s.clip_norm, s.clip_per_tensor)
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if number % BATCHES_PER_REPORT == 0 or number == total:
                message = "ranking heads and FFN units"
                shape = str(shape_of(model.config))
                run.report(Progress(number, total, {}, shape, message, PHASE))
            if number < total and run.checkpoints.due(number):
                write = partial(_write, model, optimizer, totals, number)
                run.checkpoints.save(number, total, write)
    return totals


def _write(
    model: RositaForSequenceClassification,
    optimizer: torch.optim.Optimizer,
    totals: Totals,
    batches: int,
    folder: Path,
) -> None:
    write_state(folder, {"phase": PHASE, "batches": batches})
    write_tensors(folder / TOTALS, totals)
    write_tensors(folder / MODEL, dict(model.state_dict()))
    write_tensors(folder / MOMENTS, named_moments(optimizer, model))
