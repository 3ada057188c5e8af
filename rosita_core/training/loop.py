"""One loop for fine-tuning and distilling; the objective and the prune events are passed in."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from rosita_core.data.encoded import Encoded, SpecialTokens
from rosita_core.model.checkpoint import build, copied, placed, shape_of, with_dropout
from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification
from rosita_core.pruning.importance import accumulate, importance, no_gradients
from rosita_core.pruning.prune import choose, keep_bottom_layers, prune
from rosita_core.pruning.schedule import PruneEvent
from rosita_core.training.batches import (
    Batch,
    batches_per_epoch,
    collate,
    shuffled_batches,
)
from rosita_core.training.numerics import Numerics
from rosita_core.training.optimizer import (
    build_optimizer,
    carry_moments,
    clip_gradients,
    learning_rate_factor,
)
from rosita_core.training.progress import Progress, Report
from rosita_core.training.settings import TrainingSettings

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
    """

    model: RositaForSequenceClassification
    steps: int
    best_step: int
    best_score: float


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
    events: tuple[PruneEvent, ...],
    first_layer_ranks_heads: bool,
    score: Score,
    numerics: Numerics,
    report: Report,
) -> Trained:
    """Train a copy of `model`, pruning it at `events`.

    Args:
        model: the start; it is not changed.
        data: training rows.
        special: ids that frame a sequence.
        settings: how to train.
        objective: named losses of a mini-batch; "loss" is the one that is minimized.
        events: when to cut the model and to which shape; importance is the training loss's own,
            summed since the last prune.
        first_layer_ranks_heads: fidelity, see `choose`.
        score: metrics of a model in eval mode on the selection rows; "score" decides.
        numerics: device and precision.
        report: called with losses, rates, scores and prunes.

    Raises:
        ValueError: where there is no epoch, or an event falls after the last step.
    """
    if settings.epochs == 0:
        raise ValueError("epochs must be above 0 to train, got 0")
    steps = total_steps(len(data), settings)
    if events and events[-1].step > steps:
        raise ValueError(f"prune events must end by step {steps}, got one at {events[-1].step}")
    run = _Run(model, settings, events, numerics)
    per_epoch = batches_per_epoch(len(data), settings.batch_size, settings.drop_last)
    evaluate_every = max(1, round(per_epoch / settings.accumulate / settings.evaluations_per_epoch))
    patience = None
    if settings.patience is not None:
        patience = settings.patience * per_epoch / settings.accumulate
    report_every = max(1, evaluate_every // REPORTS_PER_EVALUATION)
    meter = _Meter()
    order: list[np.ndarray] = []
    with torch.random.fork_rng():
        for step in range(1, steps + 1):
            # One seed per step makes a step's dropout independent of what ran before it.
            torch.manual_seed(settings.seed * 1_000_003 + step)
            rate = settings.learning_rate * learning_rate_factor(
                step - 1, steps, settings.schedule, settings.warmup
            )
            for micro in range(settings.accumulate):
                epoch, position = divmod((step - 1) * settings.accumulate + micro, per_epoch)
                if position == 0 or not order:
                    order = shuffled_batches(
                        data.lengths, settings.batch_size, settings.drop_last, settings.seed, epoch
                    )
                batch = collate(
                    data, order[position], settings.max_length, special, settings.pad_to_max_length
                ).to(numerics.device)
                with numerics.autocast():
                    losses = objective(run.model, batch)
                (losses["loss"] / settings.accumulate).backward()
                meter.add(losses, len(order[position]))
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
    return run.finish(step)


class _Run:
    """The state of a training: model, optimizer, gradients since the last prune, best weights."""

    def __init__(
        self,
        model: RositaForSequenceClassification,
        settings: TrainingSettings,
        events: tuple[PruneEvent, ...],
        numerics: Numerics,
    ) -> None:
        self.settings = settings
        self.original = model.config
        self.pending = list(events)
        self.model = self._quieted(copied(model, numerics.device).train())
        self.optimizer = self._optimizer()
        self.totals = no_gradients(self.model) if events else {}
        self.best: tuple[RositaConfig, dict[str, torch.Tensor]] | None = None
        self.best_score = self.last_score = -math.inf
        self.best_since = events[-1].step if events else 0

    def _optimizer(self) -> torch.optim.Optimizer:
        s = self.settings
        return build_optimizer(self.model, s.learning_rate, s.weight_decay, s.bias_correction)

    def _quieted(self, model: RositaForSequenceClassification) -> RositaForSequenceClassification:
        """The model with the dropout that holds once nothing is left to prune."""
        if self.pending or self.settings.dropout is None:
            return model
        return with_dropout(model, self.settings.dropout)

    def _config(self) -> RositaConfig:
        """The configuration of the model now, with the dropout that it came with."""
        config = RositaConfig.from_dict(self.model.config.to_dict())
        config.hidden_dropout_prob = self.original.hidden_dropout_prob
        config.attention_probs_dropout_prob = self.original.attention_probs_dropout_prob
        config.classifier_dropout = self.original.classifier_dropout
        return config

    def update(self, rate: float) -> None:
        """One optimizer step from the gradients that the model holds."""
        if self.pending:
            self.totals = accumulate(self.totals, self.model)
        clip_gradients(self.model, self.settings.clip_norm, self.settings.clip_per_tensor)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def prune_if_due(self, step: int, first_layer_ranks_heads: bool) -> str | None:
        """Cut the model where an event falls on `step`; returns a line that says so."""
        if not self.pending or self.pending[0].step != step:
            return None
        target = self.pending.pop(0).shape
        before = shape_of(self.model.config)
        if target.layers < before.layers:
            kept = keep_bottom_layers(before, target.layers)
        else:
            ranking = importance(self.model, self.totals)
            layers = tuple(range(before.layers))
            kept = choose(before, target, layers, ranking, first_layer_ranks_heads)
        old_model, old_optimizer = self.model, self.optimizer
        self.model = self._quieted(prune(old_model, kept))
        self.optimizer = self._optimizer()
        if not self.settings.reset_optimizer:
            carry_moments(old_optimizer, old_model, self.optimizer, self.model, kept)
        self.totals = no_gradients(self.model) if self.pending else {}
        return f"pruned {before} -> {target}"

    def consider(self, step: int, score: float) -> None:
        """Keep these weights where they are the best since pruning finished."""
        self.last_score = score
        if self.pending or not score > self.best_score:
            return
        self.best_score, self.best_since = score, step
        if self.settings.keep_best:
            state = {n: t.cpu().clone() for n, t in self.model.state_dict().items()}
            self.best = (self._config(), state)

    def finish(self, step: int) -> Trained:
        """The chosen weights on the CPU."""
        if self.best is None:
            last = build(self._config(), placed(self.model, "cpu").state_dict())
            return Trained(last.eval(), step, step, self.last_score)
        config, state = self.best
        return Trained(build(config, state).eval(), step, self.best_since, self.best_score)


class _Meter:
    """Means of the losses and the throughput since the last reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.batches = self.examples = 0
        self.started = time.perf_counter()

    def add(self, losses: dict[str, torch.Tensor], examples: int) -> None:
        for name, loss in losses.items():
            value = loss.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.batches += 1
        self.examples += examples

    def read(self) -> dict[str, float]:
        seconds = max(time.perf_counter() - self.started, 1e-9)
        means = {f"train/{n}": float(total / self.batches) for n, total in self.sums.items()}
        return means | {"train/examples_per_second": self.examples / seconds}
