"""One pass over calibration rows that collects what every criterion reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from rosita_core.compression.importance import ranked_weights
from rosita_core.compression.statistics import GateGradients, Statistics
from rosita_core.model.checkpoint import copied
from rosita_core.training.batches import Batch

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


class Measuring:
    """Sums over mini-batches, of one model in eval mode and float32.

    Products of gates with activations need no gates in the model: the gradient of a gate of 1 is
    the sum of h * d/dh, h being what enters the weight after it.
    """

    def __init__(
        self, model: RositaForSequenceClassification, device: str, labels: bool, regression: bool
    ) -> None:
        """Prepare a copy of `model`, which is not changed.

        Args:
            model: what is measured.
            device: where to.
            labels: whether labels are read; without them p is that of the predicted class.
            regression: whether the model predicts a number, which has no probability.
        """
        self._model = copied(model, device).eval()
        self._labels, self._regression = labels, regression
        self._weights = ranked_weights(self._model)
        for parameter in self._model.parameters():
            parameter.requires_grad_(False)
        # So that a graph begins below the first layer.
        self._model.bert.embeddings.LayerNorm.weight.requires_grad_(True)
        for weight in self._weights.values():
            weight.requires_grad_(True)
        layers = self._model.bert.encoder.layer
        self._entered: Sequence[nn.Linear] = [
            *(layer.attention.output.dense for layer in layers),
            *(layer.output.dense for layer in layers),
        ]
        self._loss: list[list[torch.Tensor]] = []
        self._probability: list[list[torch.Tensor]] = []
        self._sums = {n: torch.zeros_like(w) for n, w in self._weights.items()} if labels else {}
        self._moments = [
            torch.zeros(dense.in_features, dense.in_features, dtype=torch.float64, device=device)
            for dense in self._entered
        ]
        self._rows = self._tokens = 0

    def add(self, batch: Batch) -> None:
        """One mini-batch, on the model's device."""
        with _entering(self._entered) as entered:
            # States of all tokens, so that the last layer computes more than the first one's.
            output = self._model(
                batch.input_ids,
                batch.attention_mask,
                batch.token_type_ids,
                output_hidden_states=True,
            )
        if self._labels or not self._regression:
            self._add_gradients(entered, output.logits.float(), batch.labels)
        seen = batch.attention_mask.bool()
        for moments, z in zip(self._moments, entered, strict=True):
            tokens = z.detach()[seen]
            moments += tokens.T @ tokens
        self._rows += len(batch.input_ids)
        self._tokens += int(seen.sum())

    def _add_gradients(
        self, entered: Sequence[torch.Tensor], logits: torch.Tensor, labels: torch.Tensor
    ) -> None:
        """Those of the loss and of the probability, by one backward pass."""
        labels = labels if self._labels else logits.argmax(1)
        ranked = self._weights if self._labels else {}
        wanted = [*entered, *ranked.values()]
        found = torch.autograd.grad(self._mean_loss(logits, labels), wanted)
        gates = self._gates(entered, found[: len(entered)])
        if self._labels:
            self._loss.append([rows.sum(0) for rows in gates])
            for name, gradient in zip(ranked, found[len(entered) :], strict=True):
                self._sums[name] += gradient.abs()
        if not self._regression:
            # p = exp(-loss) of a row, hence dp = -p dloss; the mean has divided by the rows.
            p = logits.detach().softmax(1).gather(1, labels[:, None])
            self._probability.append([(rows * p).sum(0) * -len(p) for rows in gates])

    def statistics(self) -> Statistics:
        """What was measured so far."""
        layers = len(self._model.bert.encoder.layer)
        moments = [moments.cpu() for moments in self._moments]
        return Statistics(
            loss=_stacked(self._loss, layers),
            probability=_stacked(self._probability, layers),
            weight_gradients={name: total.cpu() for name, total in self._sums.items()},
            head_moments=tuple(moments[:layers]),
            unit_moments=tuple(moments[layers:]),
            rows=self._rows,
            tokens=self._tokens,
        )

    def _mean_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self._regression:
            return F.mse_loss(logits.squeeze(-1), labels)
        return F.cross_entropy(logits, labels)

    def _gates(
        self, entered: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Per weight and row, the gradient of the gate of each head (B, A) or unit (B, F)."""
        products = [(z.detach() * d).sum(1) for z, d in zip(entered, gradients, strict=True)]
        layers = len(products) // 2
        heads = [
            product.unflatten(1, (-1, self._model.config.head_size)).sum(2)
            for product in products[:layers]
        ]
        return [gates.double() for gates in (*heads, *products[layers:])]


@contextmanager
def _entering(modules: Sequence[nn.Linear]) -> Iterator[list[torch.Tensor]]:
    """What enters each of `modules` during a forward pass in the block, in their order."""
    found: list[torch.Tensor] = []
    place = {id(module): number for number, module in enumerate(modules)}
    entered: dict[int, torch.Tensor] = {}

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        entered[place[id(module)]] = inputs[0]

    hooks = [module.register_forward_pre_hook(note) for module in modules]
    try:
        yield found
        found += [entered[number] for number in range(len(modules))]
    finally:
        for hook in hooks:
            hook.remove()


def _stacked(batches: list[list[torch.Tensor]], layers: int) -> GateGradients | None:
    if not batches:
        return None
    per_weight = [torch.stack(gates).cpu() for gates in zip(*batches, strict=True)]
    return GateGradients(tuple(per_weight[:layers]), tuple(per_weight[layers:]))
