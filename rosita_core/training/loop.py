"""One loop for fine-tuning and distilling: the objective and the hooks are passed in."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from rosita_core.model.checkpoint import shape_of
from rosita_core.training.batches import (
    Batch,
    batches_per_epoch,
    collate,
    shuffled_batches,
)
from rosita_core.training.checkpoints import read_state, write_state
from rosita_core.training.hooks import Hook
from rosita_core.training.optimizer import gradients, learning_rate_factor
from rosita_core.training.progress import Progress
from rosita_core.training.run import TrainingRun
from rosita_core.training.settings import TrainingSettings
from rosita_core.training.state import TrainingState

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

Objective: TypeAlias = "Callable[[RositaForSequenceClassification, Batch], dict[str, torch.Tensor]]"
Score: TypeAlias = "Callable[[RositaForSequenceClassification], dict[str, float]]"

REPORTS_PER_EVALUATION = 10
# Seeds of two trainings whose seeds are neighbours do not meet before so many steps.
SEEDS_APART = 1_000_003


@dataclass(frozen=True)
class Trained:
    """What a training ends with.

    Attributes:
        model: the chosen weights, in eval mode.
        steps: optimizer steps done.
        best_step: step whose weights were chosen.
        best_score: the score of these weights on the selection rows.
        documents: what hooks noted on the way, to be kept beside the weights: name -> JSON-able
            document.
    """

    model: RositaForSequenceClassification
    steps: int
    best_step: int
    best_score: float
    documents: Mapping[str, Any] = field(default_factory=dict)


def total_steps(rows: int, settings: TrainingSettings) -> int:
    """Optimizer steps of a whole training on `rows` rows."""
    batches = batches_per_epoch(rows, settings.batch_size, settings.drop_last)
    return max(1, round(settings.epochs * batches / settings.accumulate))


def train(
    model: RositaForSequenceClassification,
    settings: TrainingSettings,
    objective: Objective,
    run: TrainingRun,
    score: Score,
    hooks: Sequence[Hook] = (),
) -> Trained:
    """Train a copy of `model`.

    A training that goes on from a checkpoint ends with the bits of one that was never stopped (on
    a CPU, with the same number of threads). The processes of a group call this with the same
    arguments; each computes its part of every batch, and all end with the same model.

    Example, fine-tuning: `train(model, settings, hard_label_objective, run, score)`.

    Args:
        model: the start; it is not changed. Where there is a checkpoint, its weights are not read.
        settings: how to train.
        objective: named losses of a mini-batch; "loss" is the one that is minimized.
        run: rows, where to compute, reports and checkpoints.
        score: metrics of a model in eval mode on the selection rows; "score" decides, or "choice"
            where it is among them.
        hooks: what else happens between the steps, such as pruning.

    Raises:
        ValueError: where there is no epoch, a hook needs more steps than there are, or a loss or
            an answer on the selection rows is no finite number (as a too high rate makes them).
    """
    if settings.epochs == 0:
        raise ValueError("epochs must be above 0 to train, got 0")
    plan = _plan(len(run.rows), settings)
    placement = run.placement
    state = TrainingState(model, settings, hooks, plan.steps, placement.device, placement.group)
    meter = _Meter()
    done = _resumed(run, state, meter, plan.steps)
    batches = _Batches(run, settings, plan.per_epoch)
    with placement.random_state_kept():
        for step in range(done + 1, plan.steps + 1):
            # One seed per step makes a step's dropout independent of what ran before it.
            torch.manual_seed(placement.group.seed(settings.seed * SEEDS_APART + step))
            rate = plan.rate(step)
            meter.add(*_gradients(state, objective, batches, step, settings.accumulate, run))
            state.update(rate)
            message = state.step_done(step)
            evaluated = plan.evaluates(step)
            if evaluated or message or step % plan.report_every == 0:
                metrics = meter.read() | _facts(state, rate)
                _check_losses(metrics, step)
                if evaluated:
                    metrics |= _evaluated(state, score, step)
                shape = str(shape_of(state.model.config))
                run.report(Progress(step, plan.steps, metrics, shape, message))
                meter.reset()
            if evaluated and not state.changing and step - state.best_since >= plan.patience:
                break
            if step < plan.steps and run.checkpoints.due(step):
                write = partial(_write, state, meter, step)
                run.checkpoints.save(step, plan.steps, write)
    chosen, best_step, best_score = state.chosen(step)
    return Trained(chosen, step, best_step, best_score, state.documents())


@dataclass(frozen=True)
class _Plan:
    """When a training does what. Counts are optimizer steps, but for `per_epoch`, mini-batches."""

    settings: TrainingSettings
    steps: int
    per_epoch: int
    evaluate_every: int
    report_every: int
    patience: float

    def rate(self, step: int) -> float:
        s = self.settings
        return s.learning_rate * learning_rate_factor(step - 1, self.steps, s.schedule, s.warmup)

    def evaluates(self, step: int) -> bool:
        return step % self.evaluate_every == 0 or step == self.steps


def _plan(rows: int, settings: TrainingSettings) -> _Plan:
    per_epoch = batches_per_epoch(rows, settings.batch_size, settings.drop_last)
    every = max(1, round(per_epoch / settings.accumulate / settings.evaluations_per_epoch))
    patience = float("inf")
    if settings.patience is not None:
        patience = settings.patience * per_epoch / settings.accumulate
    report_every = max(1, every // REPORTS_PER_EVALUATION)
    steps = total_steps(rows, settings)
    return _Plan(settings, steps, per_epoch, every, report_every, patience)


class _Batches:
    """Mini-batches by their number, from 0, over all epochs."""

    def __init__(self, run: TrainingRun, settings: TrainingSettings, per_epoch: int) -> None:
        self._run, self._settings, self._per_epoch = run, settings, per_epoch
        self._epoch, self._order = -1, list[np.ndarray]()

    def __call__(self, number: int) -> Batch:
        epoch, position = divmod(number, self._per_epoch)
        rows, s = self._run.rows, self._settings
        if epoch != self._epoch:
            self._order = shuffled_batches(rows.lengths, s.batch_size, s.drop_last, s.seed, epoch)
            self._epoch = epoch
        indices = self._order[position]
        return collate(rows, indices, s.max_length, self._run.framing, s.pad_to_max_length)


def _gradients(
    state: TrainingState,
    objective: Objective,
    batches: _Batches,
    step: int,
    accumulate: int,
    run: TrainingRun,
) -> tuple[list[dict[str, torch.Tensor]], int]:
    """Leave the gradients of one step in the model; its losses by mini-batch, and its examples."""
    placement = run.placement
    computed: list[dict[str, torch.Tensor]] = []
    examples = 0
    for number in range((step - 1) * accumulate, step * accumulate):
        batch = batches(number)
        part = placement.group.part(batch).to(placement.device)
        with placement.autocast():
            losses = objective(state.model, part)
        (losses["loss"] / accumulate).backward()
        computed.append({name: loss.detach().float() for name, loss in losses.items()})
        examples += len(batch.labels)
    placement.group.add_up(
        [*gradients(state.model), *(value for one in computed for value in one.values())]
    )
    return computed, examples


def _check_losses(metrics: Mapping[str, float], step: int) -> None:
    """The weights after a loss that is no number are none either."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise ValueError(
                f"{name} must stay a finite number (a lower learning_rate may help), "
                f"got {value} by step {step:,}"
            )


def _facts(state: TrainingState, rate: float) -> dict[str, float]:
    params = float(sum(p.numel() for p in state.model.parameters()))
    return {"train/lr": rate, "shape/params": params}


def _evaluated(state: TrainingState, score: Score, step: int) -> dict[str, float]:
    scores = score(state.model.eval())
    state.model.train()
    state.consider(step, scores)
    return {f"dev/{name}": value for name, value in scores.items()}


def _resumed(run: TrainingRun, state: TrainingState, meter: _Meter, steps: int) -> int:
    """Bring state and meter to where the newest checkpoint is; returns its step, or 0."""
    folder = run.checkpoints.latest()
    if folder is None:
        return 0
    values = read_state(folder)
    state.read(folder, values, run.placement.device)
    meter.set(values["meter"])
    done: int = values["step"]
    shape = str(shape_of(state.model.config))
    run.report(Progress(done, steps, {}, shape, f"goes on from step {done:,}"))
    return done


def _write(state: TrainingState, meter: _Meter, step: int, folder: Path) -> None:
    write_state(folder, {"step": step, "meter": meter.values(), **state.write(folder)})


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
        """What `set` takes back. The throughput begins anew: examples from before a stop would
        count without their time."""
        sums = {name: float(total) for name, total in self.sums.items()}
        return {"sums": sums, "batches": self.batches}

    def set(self, values: dict[str, Any]) -> None:
        self.sums = {name: torch.tensor(total) for name, total in values["sums"].items()}
        self.batches = values["batches"]

    def read(self) -> dict[str, float]:
        means = {f"train/{n}": float(total / self.batches) for n, total in self.sums.items()}
        # Only now has a GPU done what it was told.
        seconds = max(time.perf_counter() - self.started, 1e-9)
        return means | {"train/examples_per_second": self.examples / seconds}
