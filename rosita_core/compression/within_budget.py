"""What an allocation keeps within a budget, also one that chooses by a target."""

from __future__ import annotations

from rosita_core.compression.allocation import Allocation
from rosita_core.compression.budgets.budget import Purse
from rosita_core.compression.budgets.spending import Spending
from rosita_core.compression.importance import Importance
from rosita_core.compression.kept import Kept
from rosita_core.model.shape import Shape

# Of an interval of shares, more than layers have units.
HALVINGS = 60


def kept_within(
    allocation: Allocation | Spending, shape: Shape, ranking: Importance, purse: Purse
) -> Kept:
    """What an allocation keeps of all layers of `shape`; the embedding stays as it is."""
    if hasattr(allocation, "spend"):
        return allocation.spend(shape, ranking, purse)
    layers = tuple(range(shape.layers))
    return allocation.choose(shape, most_uniform(shape, purse), layers, ranking)


def most_uniform(shape: Shape, purse: Purse) -> Shape:
    """The shape of about one share of heads and of units in every layer that uses up the purse.

    For each number of heads as many units as the rest pays for; the shares of heads and of units
    that are nearest to each other win, of equal ones the one with more heads. What is left of the
    purse pays for a unit more in some of the lower layers.
    """
    best: tuple[float, Shape] | None = None
    most = max(shape.layer_heads)
    for number in range(most + 1):
        share = number / most
        heads = _scaled(shape.layer_heads, purse.floor_heads, share)
        room = (purse.limit - sum(heads) * purse.head) // purse.unit
        if room < sum(purse.floor_units):
            break
        units = _spread(shape.layer_ffn_units, purse.floor_units, room)
        apart = abs(sum(heads) / sum(shape.layer_heads) - sum(units) / sum(shape.layer_ffn_units))
        if best is None or apart <= best[0]:
            best = apart, Shape(shape.frame, heads, units, shape.embedding_rank)
    assert best is not None, "the purse holds the floors"
    return best[1]


def _scaled(counts: tuple[int, ...], floors: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(
        max(floor, min(count, round(share * count)))
        for count, floor in zip(counts, floors, strict=True)
    )


def _spread(counts: tuple[int, ...], floors: tuple[int, ...], room: int) -> tuple[int, ...]:
    """`room` units over the layers by one share, and what is left of them from below."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fits = sum(_floored(counts, floors, middle)) <= room
        low, high = (middle, high) if fits else (low, middle)
    units = list(counts if sum(counts) <= room else _floored(counts, floors, low))
    left = min(room, sum(counts)) - sum(units)
    while left > 0:
        for layer, count in enumerate(counts):
            if left > 0 and units[layer] < count:
                units[layer] += 1
                left -= 1
    return tuple(units)


def _floored(counts: tuple[int, ...], floors: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(
        max(floor, int(share * count)) for count, floor in zip(counts, floors, strict=True)
    )
