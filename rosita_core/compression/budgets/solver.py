"""Sizes of a student that a budget leaves: layers, heads, FFN units and embedding rank.

Preferred is deep and narrow, by which ROSITA's paper finds better students of one size: as many
layers as go with widths (heads, units, rank) of about one share of the teacher's.

Letters: L layers, A heads, F FFN units, E embedding rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rosita_core.compression.budgets.budget import PARAMS, Limit, allowed, size_of
from rosita_core.model.shape import Shape, narrowed, rank_or_full, shallower

Sizes = tuple[int, int, int, int]
"""Layers, heads, units and rank."""
NEAR = 0.99
"""Of the budget: what is below is not chosen where something is not."""
ALIKE = 2.0
"""How many times the largest share of the widths may be the smallest, for depth to come first."""


@dataclass(frozen=True)
class Given:
    """Sizes of a student that are given, and stay; None is to be found."""

    layers: int | None
    heads: int | None
    units: int | None
    rank: int | None

    def fields(self) -> dict[str, int | None]:
        """By the names that recipes give them."""
        return {
            "depth.keep_layers": self.layers,
            "width.keep_heads": self.heads,
            "width.ffn_units": self.units,
            "width.embedding_rank": self.rank,
        }


def solved(teacher: Shape, given: Given, limit: Limit) -> Shape:
    """The preferred shape that is never above the limit.

    It is within 1 % below the limit where any such shape is. Among those the deepest one wins whose
    shares of the teacher's heads, units and rank are within a factor of two of each other; where
    none is, the one whose shares are nearest to each other. Where no shape is so near, the largest
    one below the limit is taken. A rank that the limit does not count stays the teacher's.

    Raises:
        ValueError: where the smallest shape is above the limit.
    """
    costs = _costs(teacher, limit)
    most = allowed(teacher, limit, costs.tokens)
    best: tuple[tuple[float, ...], Sizes] | None = None
    for sizes in _candidates(teacher, given, costs, most):
        found = _preference(teacher, sizes, costs, most), sizes
        if costs.size(sizes) <= most and (best is None or found[0] > best[0]):
            best = found
    if best is None:
        raise ValueError(_too_small(teacher, given, limit, costs))
    layers, heads, units, rank = best[1]
    return narrowed(shallower(teacher, layers), heads, units, given.rank or rank)


@dataclass(frozen=True)
class _Costs:
    """What a student has of what is counted: base + layers * (heads, units and the rest of one).

    Attributes:
        head, unit, layer: of one, and of a layer without any.
        bases: rank -> of everything but the layers; one rank where it does not count.
        tokens: of a sequence.
    """

    head: int
    unit: int
    layer: int
    bases: dict[int, int]
    tokens: int

    def size(self, sizes: Sizes) -> int:
        layers, heads, units, rank = sizes
        return self.bases[rank] + layers * (heads * self.head + units * self.unit + self.layer)


def _costs(teacher: Shape, limit: Limit) -> _Costs:
    tokens = limit.tokens or 1

    def size(layers: int, heads: int, units: int, rank: int) -> int:
        found = Shape(
            teacher.frame, (heads,) * layers, (units,) * layers, rank_or_full(teacher, rank)
        )
        return size_of(found, limit.count, tokens)

    one = size(1, 1, 1, teacher.rank)
    head, unit = size(1, 2, 1, teacher.rank) - one, size(1, 1, 2, teacher.rank) - one
    layer = size(2, 1, 1, teacher.rank) - one
    counted = range(1, teacher.rank + 1) if limit.count == PARAMS else (teacher.rank,)
    bases = {rank: size(1, 1, 1, rank) - layer for rank in counted}
    return _Costs(head, unit, layer - head - unit, bases, tokens)


def _candidates(teacher: Shape, given: Given, costs: _Costs, most: int) -> Iterator[Sizes]:
    """Every layers, heads and rank, with the most units that fit where these are free."""
    all_units = min(teacher.layer_ffn_units)
    for layers in _range(given.layers, teacher.layers):
        for heads in _range(given.heads, min(teacher.layer_heads)):
            for rank in _ranks(teacher, given, costs):
                if given.units is not None:
                    yield layers, heads, given.units, rank
                    continue
                left = most - costs.size((layers, heads, 0, rank))
                units = left // (layers * costs.unit)
                if units >= 1:
                    yield layers, heads, min(units, all_units), rank


def _range(given: int | None, most: int) -> tuple[int, ...]:
    return tuple(range(1, most + 1)) if given is None else (given,)


def _ranks(teacher: Shape, given: Given, costs: _Costs) -> tuple[int, ...]:
    # A rank that does not count is the teacher's here, and its own in the result.
    if len(costs.bases) == 1:
        return (teacher.rank,)
    return tuple(costs.bases) if given.rank is None else (given.rank,)


def _preference(teacher: Shape, sizes: Sizes, costs: _Costs, most: int) -> tuple[float, ...]:
    """The larger the better."""
    layers, heads, units, rank = sizes
    counted = costs.size(sizes)
    shares = [heads / min(teacher.layer_heads), units / min(teacher.layer_ffn_units)]
    if len(costs.bases) > 1:
        shares.append(rank / teacher.rank)
    apart = max(shares) / min(shares)
    if counted < NEAR * most:
        return 0, counted, layers, -apart
    return 1, layers if apart <= ALIKE else 0, -apart, counted


def _too_small(teacher: Shape, given: Given, limit: Limit, costs: _Costs) -> str:
    smallest = (
        *(given.layers or 1, given.heads or 1, given.units or 1),
        min(_ranks(teacher, given, costs), key=lambda rank: costs.bases[rank]),
    )
    least = costs.size(smallest)
    field, bound, got = "at_most", f"{least:,}", f"{limit.at_most:,}" if limit.at_most else ""
    if limit.share is not None:
        share = math.ceil(least / size_of(teacher, limit.count, costs.tokens) * 10_000) / 10_000
        field, bound, got = "share", f"{share:g}", f"{limit.share:g}"
    return (
        f"compress.budget.{field} must be at least {bound} of count {limit.count}, which the "
        f"smallest student of the given sizes has, got {got}"
    )
