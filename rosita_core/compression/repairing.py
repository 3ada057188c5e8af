"""The walk of a repair through a pruned model: bottom up, attention before FFN.

Every sub-layer is fitted to the dense one by what it gets from the repaired ones below it.

Letters: B rows of a batch, T tokens, N tokens of all rows, K kept columns, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from rosita_core.compression.repair import Repair, System
from rosita_core.model.checkpoint import copied
from rosita_core.training.batches import Batch

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import (
        Layer,
        ResidualOutput,
        RositaForSequenceClassification,
    )


@dataclass(frozen=True)
class SubLayerFit:
    """How a sub-layer was repaired.

    Attributes:
        name: such as 3.attention.
        before, after: error on the calibration rows, as a share of what was wanted of it.
        repaired: false where it was left as it was.
    """

    name: str
    before: float
    after: float
    repaired: bool


@dataclass(frozen=True)
class Repaired:
    """A repaired model, on the CPU, and its sub-layers from below."""

    model: RositaForSequenceClassification
    fits: tuple[SubLayerFit, ...]


@torch.no_grad()
def repaired(
    dense: RositaForSequenceClassification,
    pruned: RositaForSequenceClassification,
    batches: Sequence[Batch],
    repair: Repair,
    device: str,
) -> Repaired:
    """A copy of `pruned` whose sub-layers were fitted to those of `dense`, in float32.

    Args:
        dense, pruned: of as many layers; they are not changed.
        batches: of calibration rows.
        repair: gives the new weights.
        device: where to compute.
    """
    teacher, student = copied(dense, device).eval(), copied(pruned, device).eval()
    placed = [batch.to(device) for batch in batches]
    theirs = [_embedded(teacher, batch) for batch in placed]
    own = [_embedded(student, batch) for batch in placed]
    masks = [batch.attention_mask for batch in placed]
    size, fits = student.config.head_size, list[SubLayerFit]()
    layers = zip(teacher.bert.encoder.layer, student.bert.encoder.layer, strict=True)
    for number, (reference, layer) in enumerate(layers):
        for part, enters, output_of, columns in (
            ("attention", _attended, _attention_output, size),
            ("ffn", _activated, _ffn_output, 1),
        ):
            # One after another in their places: states of all rows are what takes memory here.
            for place, (states, mask) in enumerate(zip(theirs, masks, strict=True)):
                entering = enters(reference, states, mask)
                theirs[place] = _before_norm(output_of(reference), entering, states)
            output = output_of(layer)
            entered = partial(enters, layer)
            system = _system(entered, output.dense, own, theirs, masks, columns)
            fits.append(_fit(f"{number}.{part}", output.dense, system, repair))
            for place, (states, mask) in enumerate(zip(own, masks, strict=True)):
                theirs[place] = output_of(reference).LayerNorm(theirs[place])
                own[place] = output(entered(states, mask), states)
    return Repaired(copied(student, "cpu").train(pruned.training), tuple(fits))


def _system(
    entered: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    dense: nn.Linear,
    own: Sequence[torch.Tensor],
    wanted: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor],
    columns: int,
) -> System:
    kept, hidden = dense.in_features, dense.out_features
    moments = torch.zeros(kept, kept, dtype=torch.float64)
    products = torch.zeros(kept, hidden, dtype=torch.float64)
    square = 0.0
    for states, target, mask in zip(own, wanted, masks, strict=True):
        seen = mask.bool()
        z_NK = entered(states, mask)[seen]
        b_NH = (target - states - dense.bias)[seen]
        moments += (z_NK.T @ z_NK).cpu()
        products += (z_NK.T @ b_NH).cpu()
        square += float(b_NH.double().square().sum())
    return System(moments, products, square, columns)


def _fit(name: str, dense: nn.Linear, system: System, repair: Repair) -> SubLayerFit:
    whole = max(system.wanted_square, torch.finfo(torch.float64).tiny)
    before = system.error(dense.weight.cpu()) / whole
    weight = repair.weight(dense.weight.cpu(), system)
    if weight is None:
        return SubLayerFit(name, before, before, False)
    dense.weight.copy_(weight)
    return SubLayerFit(name, before, system.error(dense.weight.cpu()) / whole, True)


def _embedded(model: RositaForSequenceClassification, batch: Batch) -> torch.Tensor:
    return model.bert.embedded(batch.input_ids, batch.token_type_ids)


def _attended(layer: Layer, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    attended, _ = layer.attention.self(states, states, mask[:, None, None, :].bool(), False)
    return attended


def _activated(layer: Layer, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return layer.intermediate(states)


def _attention_output(layer: Layer) -> ResidualOutput:
    return layer.attention.output


def _ffn_output(layer: Layer) -> ResidualOutput:
    return layer.output


def _before_norm(
    output: ResidualOutput, entered: torch.Tensor, residual: torch.Tensor
) -> torch.Tensor:
    return output.dense(entered) + residual
