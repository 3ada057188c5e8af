"""Importance of a finished model over one epoch of rows, for pruning in one step."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from rosita_core.compression.criteria.taylor import Importance, accumulate, importance, no_gradients
from rosita_core.data.encoding import Encoded, SpecialTokens
from rosita_core.model.checkpoint import copied, placed, shape_of
from rosita_core.model.modeling_rosita import RositaForSequenceClassification
from rosita_core.training.batches import batches_per_epoch, collate, shuffled_batches
from rosita_core.training.checkpoints import (
    Checkpoints,
    read_state,
    read_tensors,
    write_state,
    write_tensors,
)
from rosita_core.training.loop import Objective
from rosita_core.training.numerics import Numerics
from rosita_core.training.optimizer import (
    build_optimizer,
    clip_gradients,
    gradients,
    named_moments,
    set_moments,
)
from rosita_core.training.progress import Progress, Report
from rosita_core.training.settings import TrainingSettings

PHASE = "ranking"
GRADIENTS, MODEL, MOMENTS = (f"{name}.safetensors" for name in ("gradients", "model", "moments"))
BATCHES_PER_REPORT = 20


def rank(
    source: RositaForSequenceClassification,
    rows: Encoded,
    special: SpecialTokens,
    loop: TrainingSettings,
    update_while_ranking: bool,
    objective: Objective,
    numerics: Numerics,
    report: Report,
    checkpoints: Checkpoints,
) -> Importance:
    """Importance of `source` in eval mode over one epoch of `rows`, on the CPU.

    The processes of a group each compute a part of every batch, and rank the same.

    Args:
        loop: batches, seed and, for `update_while_ranking`, the optimizer.
        update_while_ranking: fidelity, see `OneStepSettings`.
        objective: whose loss the gradients are of.
        checkpoints: goes on from one whose phase is "ranking".
    """
    group = numerics.group
    model = copied(source, numerics.device).eval()
    optimizer = build_optimizer(model, loop.learning_rate, loop.weight_decay, loop.bias_correction)
    totals = no_gradients(model)
    done = 0
    if (folder := checkpoints.latest()) is not None and is_ranking(folder):
        done = read_state(folder)["batches"]
        totals = read_tensors(folder / GRADIENTS, numerics.device)
        model.load_state_dict(read_tensors(folder / MODEL, numerics.device))
        set_moments(optimizer, model, read_tensors(folder / MOMENTS, numerics.device))
    batches = shuffled_batches(rows.lengths, loop.batch_size, loop.drop_last, loop.seed, 0)
    total = batches_per_epoch(len(rows), loop.batch_size, loop.drop_last)
    with torch.random.fork_rng():
        for number, indices in enumerate(batches[done:], start=done + 1):
            # A teacher left in train mode (fidelity) draws dropout.
            torch.manual_seed(group.seed(loop.seed * 1_000_003 + number))
            batch = collate(rows, indices, loop.max_length, special, loop.pad_to_max_length)
            with numerics.autocast():
                loss = objective(model, group.part(batch).to(numerics.device))["loss"]
            loss.backward()
            group.add_up(gradients(model))
            totals = accumulate(totals, model)
            if update_while_ranking:
                clip_gradients(model, loop.clip_norm, loop.clip_per_tensor)
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if number % BATCHES_PER_REPORT == 0 or number == total:
                message = "ranking heads and FFN units"
                shape = str(shape_of(model.config))
                report(Progress(number, total, {}, shape, message, PHASE))
            if number < total and checkpoints.due(number):
                write = partial(_write, model, optimizer, totals, number)
                checkpoints.save(number, total, write)
    ranking = importance(placed(source, numerics.device), totals)
    group.share((*ranking.heads, *ranking.ffn_units))
    return _to_cpu(ranking)


def is_ranking(folder: Path) -> bool:
    """Whether a checkpoint was written by `rank`, and not by the training after it."""
    return read_state(folder).get("phase") == PHASE


def _write(
    model: RositaForSequenceClassification,
    optimizer: torch.optim.Optimizer,
    totals: dict[str, torch.Tensor],
    batches: int,
    folder: Path,
) -> None:
    write_state(folder, {"phase": PHASE, "batches": batches})
    write_tensors(folder / GRADIENTS, totals)
    write_tensors(folder / MODEL, dict(model.state_dict()))
    write_tensors(folder / MOMENTS, named_moments(optimizer, model))


def _to_cpu(ranking: Importance) -> Importance:
    return Importance(
        tuple(score.cpu() for score in ranking.heads),
        tuple(score.cpu() for score in ranking.ffn_units),
    )
