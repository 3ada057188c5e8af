"""The allocation of ROSITA: each layer keeps as many as the target says, its own best ones."""

from __future__ import annotations

from dataclasses import dataclass

from rosita_core.compression.allocation import Allocation
from rosita_core.compression.importance import Importance, keep_top
from rosita_core.compression.kept import Kept, check_layers
from rosita_core.model.shape import Shape


@dataclass(frozen=True)
class Uniform(Allocation):
    """The best heads and units of each layer.

    Attributes:
        first_layer_ranks_heads: fidelity: the authors rank the heads of every layer by the first
            layer's scores where no FFN unit is pruned.
    """

    first_layer_ranks_heads: bool

    def choose(
        self, shape: Shape, target: Shape, layers: tuple[int, ...], ranking: Importance
    ) -> Kept:
        """See `Allocation`.

        Raises:
            ValueError: where a layer of `target` is larger than the layer it is cut from, its
                embedding rank larger than the model's, or `layers` does not fit.
        """
        _check(shape, target, layers)
        heads, units = [], []
        for index, keep_heads, keep_units in zip(
            layers, target.layer_heads, target.layer_ffn_units, strict=True
        ):
            units_stay = keep_units == shape.layer_ffn_units[index]
            ranked_by = layers[0] if self.first_layer_ranks_heads and units_stay else index
            heads.append(keep_top(ranking.heads[ranked_by], keep_heads))
            units.append(keep_top(ranking.ffn_units[index], keep_units))
        return Kept(layers, tuple(heads), tuple(units), target.embedding_rank)


def _check(shape: Shape, target: Shape, layers: tuple[int, ...]) -> None:
    check_layers(shape, layers)
    if len(layers) != target.layers:
        raise ValueError(f"layers must name {target.layers} layers, got {len(layers)}")
    if target.rank > shape.rank:
        raise ValueError(f"embedding_rank must be in [1, {shape.rank}], got {target.rank}")
    for index, keep_heads in zip(layers, target.layer_heads, strict=True):
        if keep_heads > shape.layer_heads[index]:
            raise ValueError(
                f"keep_heads must be in [1, {shape.layer_heads[index]}] in layer {index}, "
                f"got {keep_heads}"
            )
