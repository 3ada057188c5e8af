"""The state of a training: model, optimizer, gradients since the last prune, best weights.

It can be written into a checkpoint after any step and read back. Random states are not part of it:
each step and each epoch's order are seeded by their number.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from rosita_core.compression.criteria.taylor import accumulate, importance, no_gradients
from rosita_core.compression.record import PruneRecord, from_json, record, to_json, untouched
from rosita_core.compression.schedule import PruneEvent
from rosita_core.compression.surgery import choose, keep_bottom_layers, prune
from rosita_core.model.checkpoint import build, copied, placed, shape_of, with_dropout
from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification
from rosita_core.training.checkpoints import read_tensors, write_tensors
from rosita_core.training.group import Group
from rosita_core.training.optimizer import (
    build_optimizer,
    carry_moments,
    clip_gradients,
    named_moments,
    set_moments,
)
from rosita_core.training.settings import TrainingSettings

MODEL, MOMENTS, GRADIENTS, BEST = (
    f"{name}.safetensors" for name in ("model", "moments", "gradients", "best")
)


class TrainingState:
    """A training between two steps."""

    def __init__(
        self,
        model: RositaForSequenceClassification,
        settings: TrainingSettings,
        prunes: tuple[PruneRecord, ...],
        events: tuple[PruneEvent, ...],
        device: str,
        group: Group,
    ) -> None:
        self.settings = settings
        self.group = group
        self.original = model.config
        self.pending = list(events)
        self.model = self._quieted(copied(model, device).train())
        group.share(self.model.state_dict().values())
        self.optimizer = self._optimizer()
        self.totals = no_gradients(self.model) if events else {}
        self.best: tuple[RositaConfig, dict[str, torch.Tensor]] | None = None
        self.best_score = self.last_score = -math.inf
        self.best_since = events[-1].step if events else 0
        self.start = untouched(shape_of(model.config))
        self.prunes = list(prunes)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the tensors into `folder`; returns the rest, as JSON-able values."""
        write_tensors(folder / MODEL, dict(self.model.state_dict()))
        write_tensors(folder / MOMENTS, named_moments(self.optimizer, self.model))
        write_tensors(folder / GRADIENTS, self.totals)
        values = {
            "config": self.model.config.to_dict(),
            "original": self.original.to_dict(),
            "pending": len(self.pending),
            "best_score": self.best_score,
            "last_score": self.last_score,
            "best_since": self.best_since,
            "best_config": None,
            "start": to_json((self.start,)),
            "prunes": to_json(tuple(self.prunes)),
        }
        if self.best is not None:
            config, state = self.best
            write_tensors(folder / BEST, state)
            values["best_config"] = config.to_dict()
        return values

    def read(self, folder: Path, values: dict[str, Any], device: str) -> None:
        """Become the state that `write` wrote; settings and events must be the same."""
        self.original = RositaConfig.from_dict(values["original"])
        config = RositaConfig.from_dict(values["config"])
        self.pending = self.pending[len(self.pending) - values["pending"] :]
        self.model = build(config, read_tensors(folder / MODEL, device)).train()
        self.optimizer = self._optimizer()
        set_moments(self.optimizer, self.model, read_tensors(folder / MOMENTS, device))
        self.totals = read_tensors(folder / GRADIENTS, device)
        self.best_score, self.last_score = values["best_score"], values["last_score"]
        self.best_since = values["best_since"]
        self.start = from_json(values["start"])[0]
        self.prunes = list(from_json(values["prunes"]))
        if values["best_config"] is not None:
            best = RositaConfig.from_dict(values["best_config"])
            self.best = (best, read_tensors(folder / BEST, "cpu"))

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
            ranking = None
            kept = keep_bottom_layers(before, target.layers)
        else:
            ranking = importance(self.model, self.totals)
            # On unequal devices the last bit may differ, and with it what is cut.
            self.group.share((*ranking.heads, *ranking.ffn_units))
            layers = tuple(range(before.layers))
            kept = choose(before, target, layers, ranking, first_layer_ranks_heads)
        last = self.prunes[-1] if self.prunes else self.start
        self.prunes.append(record(last, step, target, kept, ranking))
        old_model, old_optimizer = self.model, self.optimizer
        self.model = self._quieted(prune(old_model, kept))
        # The factors of the embedding have no sign of their own: each device may find another.
        self.group.share(self.model.state_dict().values())
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

    def chosen(self, step: int) -> tuple[RositaForSequenceClassification, int, float]:
        """The chosen model on the CPU in eval mode, the step that it is from, and its score."""
        if self.best is None:
            last = build(self._config(), placed(self.model, "cpu").state_dict())
            return last.eval(), step, self.last_score
        config, state = self.best
        return build(config, state).eval(), self.best_since, self.best_score
