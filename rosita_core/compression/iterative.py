"""Pruning while training (ROSITA, iterative pruning): a hook that cuts the model at given steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import AdamW, Optimizer

from rosita_core.compression.allocation import Allocation
from rosita_core.compression.criteria import Criterion, Totals
from rosita_core.compression.importance import Importance
from rosita_core.compression.kept import Kept, keep_bottom_layers
from rosita_core.compression.prune_record import (
    PruneRecord,
    documented,
    from_json,
    prune_record,
    to_json,
    untouched,
)
from rosita_core.compression.schedule import PruneEvent
from rosita_core.compression.surgery import PROJECTION, WORDS, cut_state, prune
from rosita_core.model.checkpoint import shape_of
from rosita_core.model.shape import Shape
from rosita_core.training.checkpoints import read_tensors, write_tensors
from rosita_core.training.group import Group
from rosita_core.training.hooks import ActiveHook, Hook, InTraining
from rosita_core.training.optimizer import MOMENTS

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

TOTALS = "totals.safetensors"


@dataclass(frozen=True)
class Choice:
    """How heads and units are chosen.

    Attributes:
        criterion: what each is worth, by the gradients since the last prune.
        allocation: which of them stay.
    """

    criterion: Criterion
    allocation: Allocation


@dataclass(frozen=True)
class IterativePruning(Hook):
    """Cuts the model at `events`.

    Attributes:
        events: when to cut, and to which shape; steps ascend.
        choice: how heads and units are chosen; None where only layers go, the top ones first.
        reset_optimizer: fidelity: forget the moments at every prune.
        before: what was cut from the model before, which the records of this hook go on from.
    """

    events: tuple[PruneEvent, ...]
    choice: Choice | None
    reset_optimizer: bool
    before: tuple[PruneRecord, ...]

    def begin(self, model: RositaForSequenceClassification, steps: int) -> ActiveHook:
        """See `Hook`.

        Raises:
            ValueError: where an event falls after the last step.
        """
        if self.events and self.events[-1].step > steps:
            last = self.events[-1].step
            raise ValueError(f"prune events must end by step {steps}, got one at {last}")
        return _Pruning(self, model)


class _Pruning(ActiveHook):
    """The pruning of one training."""

    def __init__(self, settings: IterativePruning, model: RositaForSequenceClassification) -> None:
        self.settings = settings
        self.pending = list(settings.events)
        self.start = untouched(shape_of(model.config))
        self.records = list(settings.before)
        self.totals = self._begin(model)

    @property
    def changing(self) -> bool:
        return bool(self.pending)

    def gradients_ready(self, model: RositaForSequenceClassification) -> None:
        choice = self.settings.choice
        if self.pending and choice is not None and choice.criterion.needs_gradients:
            self.totals = choice.criterion.accumulate(self.totals, model)

    def step_done(self, step: int, training: InTraining) -> str | None:
        if not self.pending or self.pending[0].step != step:
            return None
        target = self.pending.pop(0).shape
        before = shape_of(training.model.config)
        kept, ranking = self._chosen(training.model, before, target, training.group)
        last = self.records[-1] if self.records else self.start
        self.records.append(prune_record(last, step, target, kept, ranking))
        self._cut(training, kept)
        self.totals = self._begin(training.model)
        return f"pruned {before} -> {target}"

    def write(self, folder: Path) -> dict[str, Any]:
        write_tensors(folder / TOTALS, self.totals)
        return {
            "pending": len(self.pending),
            "start": to_json((self.start,)),
            "records": to_json(tuple(self.records)),
        }

    def read(self, folder: Path, values: dict[str, Any], device: str) -> None:
        self.pending = self.pending[len(self.pending) - values["pending"] :]
        self.totals = read_tensors(folder / TOTALS, device)
        self.start = from_json(values["start"])[0]
        self.records = list(from_json(values["records"]))

    def documents(self) -> Mapping[str, Any]:
        return documented(tuple(self.records))

    def _begin(self, model: RositaForSequenceClassification) -> Totals:
        choice = self.settings.choice
        return choice.criterion.begin(model) if self.pending and choice is not None else {}

    def _chosen(
        self, model: RositaForSequenceClassification, before: Shape, target: Shape, group: Group
    ) -> tuple[Kept, Importance | None]:
        """What stays, and by which scores; whole layers go without any."""
        if target.layers < before.layers:
            return keep_bottom_layers(before, target.layers), None
        choice = self.settings.choice
        if choice is None:
            raise ValueError(f"choice must be given to cut {before} to {target}, got none")
        ranking = choice.criterion.score(model, self.totals)
        # On unequal devices the last bit may differ, and with it what is cut.
        group.share((*ranking.heads, *ranking.ffn_units))
        layers = tuple(range(before.layers))
        return choice.allocation.choose(before, target, layers, ranking), ranking

    def _cut(self, training: InTraining, kept: Kept) -> None:
        model, optimizer = training.model, training.optimizer
        training.take(prune(model, kept))
        if not self.settings.reset_optimizer:
            carry_moments(optimizer, model, training.optimizer, training.model, kept)


def carry_moments(
    old: Optimizer,
    old_model: RositaForSequenceClassification,
    new: Optimizer,
    new_model: RositaForSequenceClassification,
    kept: Kept,
) -> None:
    """Give `new` the moments that `old` holds for everything that `kept` leaves.

    `new` is filled in place, as optimizers are stateful. Freshly factorized embeddings have no
    past and start at zero.
    """
    head_size = old_model.config.head_size
    old_parameters = dict(old_model.named_parameters())
    factorizing = kept.embedding_rank is not None and PROJECTION not in old_parameters
    new_parameters = dict(new_model.named_parameters())
    for moment in MOMENTS:
        state = {
            n: old.state[p][moment] for n, p in old_parameters.items() if moment in old.state[p]
        }
        for name, tensor in cut_state(state, kept, head_size).items():
            if not (factorizing and name == WORDS):
                new.state[new_parameters[name]][moment] = tensor
    for name in list(new_parameters):
        slot = new.state[new_parameters[name]]
        if slot and isinstance(new, AdamW):
            slot["step"] = _steps_of(old)


def _steps_of(optimizer: Optimizer) -> torch.Tensor:
    # The parameters of a model need not all have taken every step, and after a resume they come in
    # another order; the loop's count is that of the oldest.
    steps = [slot["step"] for slot in optimizer.state.values() if "step" in slot]
    return torch.stack(steps).max() if steps else torch.zeros(())
