"""What one pass over calibration rows says of a model: all that criteria read of rows.

Letters: M mini-batches, A heads, D head size, F FFN units, Z activations that enter a weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from safetensors.torch import load_file, save_file

from rosita_core.compression.importance import Importance
from rosita_core.model.shape import Shape

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

FILE = "statistics.safetensors"
BYTES = 4
_COUNTS = "counts"


@dataclass(frozen=True)
class GateGradients:
    """Gradients of a gate of 1 on every head and unit: sum over rows and tokens of h * d/dh.

    Attributes:
        heads: per layer (M, A), a row per mini-batch.
        ffn_units: per layer (M, F).
    """

    heads: tuple[torch.Tensor, ...]
    ffn_units: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Statistics:
    """What was measured of one model, on the CPU.

    Attributes:
        loss: gate gradients of each mini-batch's mean loss; None without labels.
        probability: gate gradients of the sum of p(class), the row's own or, without labels, the
            predicted one; None for regression.
        weight_gradients: sum over mini-batches of the absolute gradients of the ranked weights, by
            name, which is what `Taylor` sums; empty without labels.
        head_moments: per layer Z'Z (A*D, A*D) of what enters the attention output.
        unit_moments: per layer Z'Z (F, F) of what enters the FFN output.
        rows, tokens: that were seen; padding is no token.
    """

    loss: GateGradients | None
    probability: GateGradients | None
    weight_gradients: Mapping[str, torch.Tensor]
    head_moments: tuple[torch.Tensor, ...]
    unit_moments: tuple[torch.Tensor, ...]
    rows: int
    tokens: int

    @property
    def mean_tokens(self) -> int:
        """Tokens of a row, rounded up."""
        return -(-self.tokens // self.rows)


class MeasuredCriterion(Protocol):
    """How much a model would miss each head and unit, by its statistics.

    The criteria of `criteria/__init__.py`, which sum gradients while a model trains, are read as
    such by `importance_of`, too.
    """

    needs_labels: ClassVar[bool]
    """Whether it reads the gradient of the loss."""
    needs_classes: ClassVar[bool]
    """Whether it reads the gradient of a class's probability."""
    ranks_heads: ClassVar[bool]
    """Without, heads are not to be cut by it, and their scores say nothing."""

    def rank(self, model: RositaForSequenceClassification, statistics: Statistics) -> Importance:
        """Importance of every head and unit of `model`, on the CPU."""


def measured_bytes(shape: Shape) -> int:
    """What the statistics of a model of `shape` take in memory, about, in float32."""
    moments = sum((heads * shape.frame.head_size) ** 2 for heads in shape.layer_heads)
    moments += sum(units**2 for units in shape.layer_ffn_units)
    hidden = shape.frame.hidden_size
    weights = sum(heads * shape.frame.head_size * hidden for heads in shape.layer_heads)
    weights += sum(2 * units * hidden for units in shape.layer_ffn_units)
    return BYTES * (moments + weights)


def save_statistics(statistics: Statistics, folder: Path) -> None:
    """Write them into `folder`, in float32."""
    tensors = {_COUNTS: torch.tensor([statistics.rows, statistics.tokens])}
    for name, gates in (("loss", statistics.loss), ("probability", statistics.probability)):
        if gates is not None:
            tensors |= _numbered(f"{name}.heads", gates.heads)
            tensors |= _numbered(f"{name}.units", gates.ffn_units)
    tensors |= {f"weights.{name}": w for name, w in statistics.weight_gradients.items()}
    tensors |= _numbered("moments.heads", statistics.head_moments)
    tensors |= _numbered("moments.units", statistics.unit_moments)
    small = {name: _stored(tensor) for name, tensor in tensors.items()}
    save_file(small, folder / FILE)


def load_statistics(folder: Path) -> Statistics:
    """What `save_statistics` wrote."""
    tensors = load_file(folder / FILE)
    rows, tokens = tensors[_COUNTS].tolist()
    return Statistics(
        loss=_gates(tensors, "loss"),
        probability=_gates(tensors, "probability"),
        weight_gradients={
            name.removeprefix("weights."): w
            for name, w in tensors.items()
            if name.startswith("weights.")
        },
        head_moments=_listed(tensors, "moments.heads"),
        unit_moments=_listed(tensors, "moments.units"),
        rows=rows,
        tokens=tokens,
    )


def _gates(tensors: Mapping[str, torch.Tensor], name: str) -> GateGradients | None:
    heads = _listed(tensors, f"{name}.heads")
    return GateGradients(heads, _listed(tensors, f"{name}.units")) if heads else None


def _numbered(name: str, tensors: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    return {f"{name}.{layer}": tensor for layer, tensor in enumerate(tensors)}


def _listed(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[torch.Tensor, ...]:
    count = sum(key.startswith(f"{name}.") for key in tensors)
    return tuple(tensors[f"{name}.{layer}"] for layer in range(count))


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    small = tensor.float() if tensor.is_floating_point() else tensor
    return small.contiguous()
