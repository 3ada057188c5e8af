"""Removing heads, FFN units, embedding rank and layers, by the indices that are kept.

Every function works on named tensors, so that weights and the optimizer's moments, which have the
same names and shapes, are cut by the same code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from rosita_core.compression.criteria.taylor import Importance, keep_top
from rosita_core.compression.low_rank import factorize
from rosita_core.model.checkpoint import build
from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification
from rosita_core.model.shape import Shape

State = dict[str, torch.Tensor]

WORDS = "bert.embeddings.word_embeddings.weight"
PROJECTION = "bert.embeddings.projection.weight"
_LAYER = re.compile(r"^bert\.encoder\.layer\.(\d+)\.(.+)$")


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


def choose(
    shape: Shape,
    target: Shape,
    layers: tuple[int, ...],
    ranking: Importance,
    first_layer_ranks_heads: bool,
) -> Kept:
    """The heads and units of `layers` that reach `target`, by `ranking`.

    Args:
        shape: of the model that was ranked.
        target: what shall remain; one entry per element of `layers`.
        layers: which layers of the model stay, ascending.
        ranking: scores per layer of the model.
        first_layer_ranks_heads: fidelity: the authors rank the heads of every layer by the first
            layer's scores where no FFN unit is pruned.

    Raises:
        ValueError: where a layer of `target` is larger than the layer it is cut from, its embedding
            rank larger than the model's, or `layers` does not fit.
    """
    _check_layers(shape, layers)
    if len(layers) != target.layers:
        raise ValueError(f"layers must name {target.layers} layers, got {len(layers)}")
    if target.rank > shape.rank:
        raise ValueError(f"embedding_rank must be in [1, {shape.rank}], got {target.rank}")
    heads, units = [], []
    for index, keep_heads, keep_units in zip(
        layers, target.layer_heads, target.layer_ffn_units, strict=True
    ):
        if keep_heads > shape.layer_heads[index]:
            raise ValueError(
                f"keep_heads must be in [1, {shape.layer_heads[index]}] in layer {index}, "
                f"got {keep_heads}"
            )
        units_stay = keep_units == shape.layer_ffn_units[index]
        ranked_by = layers[0] if first_layer_ranks_heads and units_stay else index
        heads.append(keep_top(ranking.heads[ranked_by], keep_heads))
        units.append(keep_top(ranking.ffn_units[index], keep_units))
    return Kept(layers, tuple(heads), tuple(units), target.embedding_rank)


def keep_bottom_layers(shape: Shape, count: int) -> Kept:
    """Everything of the bottom `count` layers."""
    return keep_layers(shape, tuple(range(count)))


def keep_layers(shape: Shape, layers: tuple[int, ...]) -> Kept:
    """Everything of `layers`, nothing of the others.

    Raises:
        ValueError: where `layers` is empty, not ascending or names a layer that `shape` lacks.
    """
    _check_layers(shape, layers)
    heads = tuple(torch.arange(shape.layer_heads[i]) for i in layers)
    units = tuple(torch.arange(shape.layer_ffn_units[i]) for i in layers)
    return Kept(layers, heads, units, shape.embedding_rank)


def _check_layers(shape: Shape, layers: tuple[int, ...]) -> None:
    ascending = list(layers) == sorted(set(layers))
    if not layers or not ascending or layers[0] < 0 or layers[-1] >= shape.layers:
        raise ValueError(
            f"layers must be ascending and in [0, {shape.layers - 1}], got {list(layers)}"
        )


def prune(model: RositaForSequenceClassification, kept: Kept) -> RositaForSequenceClassification:
    """A new model with only what `kept` names; `model` stays as it is.

    The first cut of a full embedding factorizes it; later cuts keep the first columns of both
    trained factors.
    """
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    cut = cut_state(state, kept, model.config.head_size)
    if kept.embedding_rank is not None and PROJECTION not in state:
        factors = factorize(state[WORDS], kept.embedding_rank)
        cut[WORDS], cut[PROJECTION] = factors.left, factors.right.T.contiguous()
    return build(pruned_config(model.config, kept), cut).train(model.training)


def pruned_config(config: RositaConfig, kept: Kept) -> RositaConfig:
    """`config` with the sizes that `kept` leaves."""
    values = config.to_dict() | {
        "layer_heads": [len(heads) for heads in kept.heads],
        "layer_ffn_units": [len(units) for units in kept.ffn_units],
        "embedding_rank": config.embedding_rank
        if kept.embedding_rank is None
        else kept.embedding_rank,
    }
    return RositaConfig.from_dict(values)


def cut_state(state: State, kept: Kept, head_size: int) -> State:
    """The part of named tensors that `kept` leaves, as fresh contiguous tensors.

    A full embedding stays full here (its factorization is not a selection); names that `state`
    lacks are no error, so that moments of some parameters may be missing.
    """
    position = {old: new for new, old in enumerate(kept.layers)}
    columns = [_columns_of(heads, head_size) for heads in kept.heads]
    result: State = {}
    for name, tensor in state.items():
        match = _LAYER.match(name)
        if match is None:
            result[name] = _cut_embedding(name, tensor, kept, PROJECTION in state)
        elif int(match[1]) in position:
            new = position[int(match[1])]
            part = _cut_layer(match[2], tensor, columns[new], kept.ffn_units[new])
            result[f"bert.encoder.layer.{new}.{match[2]}"] = part
    return result


def _columns_of(heads: torch.Tensor, head_size: int) -> torch.Tensor:
    return (heads[:, None] * head_size + torch.arange(head_size, device=heads.device)).flatten()


def _cut_embedding(name: str, tensor: torch.Tensor, kept: Kept, factorized: bool) -> torch.Tensor:
    if factorized and kept.embedding_rank is not None and name in (WORDS, PROJECTION):
        return tensor[:, : kept.embedding_rank].clone(memory_format=torch.contiguous_format)
    return tensor.clone()


def _cut_layer(
    name: str, tensor: torch.Tensor, columns: torch.Tensor, units: torch.Tensor
) -> torch.Tensor:
    if name.startswith("attention.self."):
        return tensor.index_select(0, columns.to(tensor.device))
    if name == "attention.output.dense.weight":
        return tensor.index_select(1, columns.to(tensor.device))
    if name.startswith("intermediate.dense."):
        return tensor.index_select(0, units.to(tensor.device))
    if name == "output.dense.weight":
        return tensor.index_select(1, units.to(tensor.device))
    return tensor.clone()
