"""The state of a training: model, optimizer, hooks and best weights.

It can be written into a checkpoint after any step and read back. Random states are not part of it:
each step and each epoch's order are seeded by their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rosita_core.model.checkpoint import build, copied, placed, with_dropout
from rosita_core.training.checkpoints import read_tensors, write_tensors
from rosita_core.training.group import Group
from rosita_core.training.hooks import Hook
from rosita_core.training.optimizer import (
    build_optimizer,
    clip_gradients,
    named_moments,
    set_moments,
)
from rosita_core.training.progress import CHOICE
from rosita_core.training.settings import TrainingSettings

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification

MODEL, MOMENTS, BEST = (f"{name}.safetensors" for name in ("model", "moments", "best"))


class TrainingState:
    """A training between two steps."""

    def __init__(
        self,
        model: RositaForSequenceClassification,
        settings: TrainingSettings,
        hooks: Sequence[Hook],
        steps: int,
        device: str,
        group: Group,
    ) -> None:
        self.settings = settings
        self.group = group
        self.original = model.config
        own = copied(model, device).train()
        group.share(own.state_dict().values())
        self.hooks = [hook.begin(own, steps) for hook in hooks]
        self.model = self._quieted(own)
        self.optimizer = self._optimizer()
        self.best: tuple[RositaConfig, dict[str, torch.Tensor]] | None = None
        self.best_value = self.best_score = self.last_score = -math.inf
        self.best_since = 0

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the tensors into `folder`; returns the rest, as JSON-able values."""
        write_tensors(folder / MODEL, dict(self.model.state_dict()))
        write_tensors(folder / MOMENTS, named_moments(self.optimizer, self.model))
        values = {
            "config": self.model.config.to_dict(),
            "original": self.original.to_dict(),
            "best_value": self.best_value,
            "best_score": self.best_score,
            "last_score": self.last_score,
            "best_since": self.best_since,
            "best_config": None,
            "hooks": [self._write_hook(folder, number) for number in range(len(self.hooks))],
        }
        if self.best is not None:
            config, state = self.best
            write_tensors(folder / BEST, state)
            values["best_config"] = config.to_dict()
        return values

    def read(self, folder: Path, values: dict[str, Any], device: str) -> None:
        """Become the state that `write` wrote; settings and hooks must be the same."""
        kind = type(self.model.config)
        self.original = kind.from_dict(values["original"])
        config = kind.from_dict(values["config"])
        self.model = build(config, read_tensors(folder / MODEL, device)).train()
        self.optimizer = self._optimizer()
        set_moments(self.optimizer, self.model, read_tensors(folder / MOMENTS, device))
        for number, (hook, kept) in enumerate(zip(self.hooks, values["hooks"], strict=True)):
            hook.read(_of_hook(folder, number), kept, device)
        self.best_value = values["best_value"]
        self.best_score, self.last_score = values["best_score"], values["last_score"]
        self.best_since = values["best_since"]
        if values["best_config"] is not None:
            best = kind.from_dict(values["best_config"])
            self.best = (best, read_tensors(folder / BEST, "cpu"))

    def _write_hook(self, folder: Path, number: int) -> dict[str, Any]:
        _of_hook(folder, number).mkdir()
        return self.hooks[number].write(_of_hook(folder, number))

    def _optimizer(self) -> torch.optim.Optimizer:
        s = self.settings
        return build_optimizer(self.model, s.learning_rate, s.weight_decay, s.bias_correction)

    @property
    def changing(self) -> bool:
        """Whether a hook will still change the model."""
        return any(hook.changing for hook in self.hooks)

    def _quieted(self, model: RositaForSequenceClassification) -> RositaForSequenceClassification:
        """The model with the dropout that holds once nothing will change it any more."""
        if self.changing or self.settings.dropout is None:
            return model
        return with_dropout(model, self.settings.dropout)

    def _config(self) -> RositaConfig:
        """The configuration of the model now, with the dropout that it came with."""
        config = type(self.model.config).from_dict(self.model.config.to_dict())
        config.hidden_dropout_prob = self.original.hidden_dropout_prob
        config.attention_probs_dropout_prob = self.original.attention_probs_dropout_prob
        config.classifier_dropout = self.original.classifier_dropout
        return config

    def update(self, rate: float) -> None:
        """One optimizer step from the gradients that the model holds."""
        for hook in self.hooks:
            hook.gradients_ready(self.model)
        clip_gradients(self.model, self.settings.clip_norm, self.settings.clip_per_tensor)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def step_done(self, step: int) -> str | None:
        """Let the hooks act after optimizer step `step`; returns a line where they did."""
        changing = self.changing
        said = [hook.step_done(step, self) for hook in self.hooks]
        if changing and not self.changing:
            # Patience counts from here.
            self.best_since = step
        return "; ".join(line for line in said if line) or None

    def take(self, model: RositaForSequenceClassification) -> None:
        """See `rosita_core.training.hooks.InTraining`."""
        self.model = self._quieted(model)
        # What a hook computed may differ in the last bit between devices.
        self.group.share(self.model.state_dict().values())
        self.optimizer = self._optimizer()

    def documents(self) -> Mapping[str, Any]:
        """What the hooks want kept beside the weights."""
        return {
            name: document for hook in self.hooks for name, document in hook.documents().items()
        }

    def consider(self, step: int, scores: Mapping[str, float]) -> None:
        """Keep these weights where they are the best since the last change by a hook."""
        self.last_score = scores["score"]
        value = scores.get(CHOICE, self.last_score)
        if self.changing or not value > self.best_value:
            return
        self.best_value, self.best_score, self.best_since = value, self.last_score, step
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


def _of_hook(folder: Path, number: int) -> Path:
    return folder / f"hook-{number}"
