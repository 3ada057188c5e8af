"""One loop for fine-tuning and distilling; the objective and the prune events are passed in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rosita_core.compression.record import PruneRecord
from rosita_core.compression.schedule import PruneEvent
from rosita_core.data.encoding import Encoded, SpecialTokens
from rosita_core.model.checkpoint import shape_of
from rosita_core.model.modeling_rosita import RositaForSequenceClassification
from rosita_core.training.batches import (
    Batch,
    batches_per_epoch,
    collate,
    shuffled_batches,
)
from rosita_core.training.checkpoints import Checkpoints, read_state, write_state
from rosita_core.training.numerics import Numerics
from rosita_core.training.optimizer import gradients, learning_rate_factor
from rosita_core.training.progress import Progress, Report
from rosita_core.training.settings import TrainingSettings
from rosita_core.training.state import TrainingState

Objective = Callable[[RositaForSequenceClassification, Batch], dict[str, torch.Tensor]]
Score = Callable[[RositaForSequenceClassification], dict[str, float]]

REPORTS_PER_EVALUATION = 10


@dataclass(frozen=True)
class Trained:
    """What a training ends with.

    Attributes:
        model: the chosen weights, in eval mode.
        steps: optimizer steps done.
        best_step: step whose weights were chosen.
        best_score: the score of these weights on the selection rows.
        prunes: what was cut on the way, in order.
    """

    model: RositaForSequenceClassification
    steps: int
    best_step: int
    best_score: float
    prunes: tuple[PruneRecord, ...]


def total_steps(rows: int, settings: TrainingSettings) -> int:
    """Optimizer steps of a whole training on `rows` rows."""
    batches = batches_per_epoch(rows, settings.batch_size, settings.drop_last)
    return max(1, round(settings.epochs * batches / settings.accumulate))


def train(
    model: RositaForSequenceClassification,
    data: Encoded,
    special: SpecialTokens,
    settings: TrainingSettings,
    objective: Objective,
    prunes: tuple[PruneRecord, ...],
    events: tuple[PruneEvent, ...],
    first_layer_ranks_heads: bool,
    score: Score,
    numerics: Numerics,
    report: Report,
    checkpoints: Checkpoints,
) -> Trained:
    """Train a copy of `model`, pruning it at `events`.

    A training that goes on from a checkpoint ends with the bits of one that was never stopped (on
    a CPU, with the same number of threads). The processes of a group call this with the same
    arguments; each computes its part of every batch, and all end with the same model.

    Args:
        model: the start; it is not changed. Where there is a checkpoint, its weights are not read.
        data: training rows.
        special: ids that frame a sequence.
        settings: how to train.
        objective: named losses of a mini-batch; "loss" is the one that is minimized.
        prunes: what was cut from the model before, which the records of `events` go on from.
        events: when to cut the model and to which shape; importance is the training loss's own,
            summed since the last prune.
        first_layer_ranks_heads: fidelity, see `choose`.
        score: metrics of a model in eval mode on the selection rows; "score" decides.
        numerics: device, precision and group.
        report: called with losses, rates, scores and prunes.
        checkpoints: where the training is written down, and where it goes on from.

    Raises:
        ValueError: where there is no epoch, or an event falls after the last step.
    """
    if settings.epochs == 0:
        raise ValueError("epochs must be above 0 to train, got 0")
    steps = total_steps(len(data), settings)
    if events and events[-1].step > steps:
        raise ValueError(f"prune events must end by step {steps}, got one at {events[-1].step}")
    group = numerics.group
    run = TrainingState(model, settings, prunes, events, numerics.device, group)
    per_epoch = batches_per_epoch(len(data), settings.batch_size, settings.drop_last)
    evaluate_every = max(1, round(per_epoch / settings.accumulate / settings.evaluations_per_epoch))
    patience = None
    if settings.patience is not None:
        patience = settings.patience * per_epoch / settings.accumulate
    report_every = max(1, evaluate_every // REPORTS_PER_EVALUATION)
    meter = _Meter()
    order: list[np.ndarray] = []
    done = 0
    if (folder := checkpoints.latest()) is not None:
        done = _read(folder, run, meter, numerics.device)
        shape = str(shape_of(run.model.config))
        report(Progress(done, steps, {}, shape, f"goes on from step {done:,}"))
    with torch.random.fork_rng():
        for step in range(done + 1, steps + 1):
            # One seed per step makes a step's dropout independent of what ran before it.
            torch.manual_seed(group.seed(settings.seed * 1_000_003 + step))
            rate = settings.learning_rate * learning_rate_factor(
                step - 1, steps, settings.schedule, settings.warmup
            )
            computed: list[dict[str, torch.Tensor]] = []
            examples = 0
            for micro in range(settings.accumulate):
                epoch, position = divmod((step - 1) * settings.accumulate + micro, per_epoch)
                if position == 0 or not order:
                    order = shuffled_batches(
                        data.lengths, settings.batch_size, settings.drop_last, settings.seed, epoch
                    )
                batch = collate(
                    data, order[position], settings.max_length, special, settings.pad_to_max_length
                )
                part = group.part(batch).to(numerics.device)
                with numerics.autocast():
                    losses = objective(run.model, part)
                (losses["loss"] / settings.accumulate).backward()
                computed.append({name: loss.detach().float() for name, loss in losses.items()})
                examples += len(order[position])
            group.add_up([*gradients(run.model), *(v for one in computed for v in one.values())])
            meter.add(computed, examples)
            run.update(rate)
            message = run.prune_if_due(step, first_layer_ranks_heads)
            evaluated = step % evaluate_every == 0 or step == steps
            if evaluated or message or step % report_every == 0:
                metrics = meter.read() | {
                    "train/lr": rate,
                    "shape/params": float(sum(p.numel() for p in run.model.parameters())),
                }
                if evaluated:
                    scores = score(run.model.eval())
                    run.model.train()
                    metrics |= {f"dev/{name}": value for name, value in scores.items()}
                    run.consider(step, scores["score"])
                report(Progress(step, steps, metrics, str(shape_of(run.model.config)), message))
                meter.reset()
            if evaluated and patience is not None and step - run.best_since >= patience:
                break
            if step < steps and checkpoints.due(step):
                checkpoints.save(step, steps, partial(_write, run, meter, step))
    chosen, best_step, best_score = run.chosen(step)
    return Trained(chosen, step, best_step, best_score, tuple(run.prunes))


def _write(run: TrainingState, meter: _Meter, step: int, folder: Path) -> None:
    write_state(folder, {"step": step, "meter": meter.values(), **run.write(folder)})


def _read(folder: Path, run: TrainingState, meter: _Meter, device: str) -> int:
    """Bring `run` and `meter` to where they were; returns the step."""
    values = read_state(folder)
    run.read(folder, values, device)
    meter.set(values["meter"])
    step: int = values["step"]
    return step


class _Meter:
    """Means of the losses and the throughput since the last reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.batches = self.examples = 0
        self.started = time.perf_counter()

    def add(self, computed: list[dict[str, torch.Tensor]], examples: int) -> None:
        """Losses of each batch, and how many examples the batches have in all."""
        for losses in computed:
            for name, value in losses.items():
                self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.batches += len(computed)
        self.examples += examples

    def values(self) -> dict[str, Any]:
        """What `set` takes back, but for the time that has passed."""
        sums = {name: float(total) for name, total in self.sums.items()}
        return {"sums": sums, "batches": self.batches, "examples": self.examples}

    def set(self, values: dict[str, Any]) -> None:
        self.sums = {name: torch.tensor(total) for name, total in values["sums"].items()}
        self.batches, self.examples = values["batches"], values["examples"]

    def read(self) -> dict[str, float]:
        seconds = max(time.perf_counter() - self.started, 1e-9)
        means = {f"train/{n}": float(total / self.batches) for n, total in self.sums.items()}
        return means | {"train/examples_per_second": self.examples / seconds}
