"""Removing heads, FFN units, embedding rank and layers, by the indices that are kept.

Every function works on named tensors, so that weights and the optimizer's moments, which have the
same names and shapes, are cut by the same code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from rosita_core.compression.kept import Kept
from rosita_core.compression.low_rank import factorize
from rosita_core.model.checkpoint import build

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification

State = dict[str, torch.Tensor]

WORDS = "bert.embeddings.word_embeddings.weight"
PROJECTION = "bert.embeddings.word_embeddings.projection.weight"
_LAYER = re.compile(r"^bert\.encoder\.layer\.(\d+)\.(.+)$")


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
    return type(config).from_dict(values)


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
