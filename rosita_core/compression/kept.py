"""What a prune keeps of a model, by indices."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rosita_core.model.shape import Shape


@dataclass(frozen=True)
class Kept:
    """What a prune keeps.

    Attributes:
        layers: indices of the layers kept, ascending.
        heads: per layer kept, indices of its heads, ascending.
        ffn_units: per layer kept, indices of its FFN units, ascending.
        embedding_rank: columns of the factors kept, or None to leave the embedding as it is.
    """

    layers: tuple[int, ...]
    heads: tuple[torch.Tensor, ...]
    ffn_units: tuple[torch.Tensor, ...]
    embedding_rank: int | None


def keep_bottom_layers(shape: Shape, count: int) -> Kept:
    """Everything of the bottom `count` layers."""
    return keep_layers(shape, tuple(range(count)))


def keep_layers(shape: Shape, layers: tuple[int, ...]) -> Kept:
    """Everything of `layers`, nothing of the others.

    Raises:
        ValueError: where `layers` is empty, not ascending or names a layer that `shape` lacks.
    """
    check_layers(shape, layers)
    heads = tuple(torch.arange(shape.layer_heads[i]) for i in layers)
    units = tuple(torch.arange(shape.layer_ffn_units[i]) for i in layers)
    return Kept(layers, heads, units, shape.embedding_rank)


def check_layers(shape: Shape, layers: tuple[int, ...]) -> None:
    """Whether `layers` are some of a model's, ascending.

    Raises:
        ValueError: where they are not.
    """
    ascending = list(layers) == sorted(set(layers))
    if not layers or not ascending or layers[0] < 0 or layers[-1] >= shape.layers:
        raise ValueError(
            f"layers must be ascending and in [0, {shape.layers - 1}], got {list(layers)}"
        )
