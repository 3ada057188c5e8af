"""How an allocation spends a budget on heads and units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from rosita_core.compression.budgets.budget import Purse
from rosita_core.compression.importance import Importance, keep_top
from rosita_core.compression.kept import Kept
from rosita_core.model.shape import Shape


class Spending(Protocol):
    """An allocation whose layers may differ.

    Those that choose by a target, as ROSITA's does, get one from `within_budget.py`.
    """

    def spend(self, shape: Shape, ranking: Importance, purse: Purse) -> Kept:
        """The heads and units that stay: floors first, never more than the purse holds.

        Args:
            shape: of the model that was ranked; all its layers stay.
            ranking: scores per layer of the model.
            purse: holds the floors at least.
        """


class Item(NamedTuple):
    """A head or unit that is not of its layer's floor."""

    score: float
    layer: int
    number: int


@dataclass(frozen=True)
class Listed:
    """The heads of all layers, or their units.

    Attributes:
        floors: per layer, the best ones, which stay.
        rest: the others, the best first; of equal scores the lower layer, then the lower index.
    """

    floors: tuple[tuple[int, ...], ...]
    rest: tuple[Item, ...]

    def with_some(self, items: Iterable[Item]) -> tuple[torch.Tensor, ...]:
        """Indices per layer, ascending: the floors and `items`."""
        found = [list(floor) for floor in self.floors]
        for item in items:
            found[item.layer].append(item.number)
        return tuple(torch.tensor(sorted(indices)) for indices in found)


def best_first(scores: Sequence[torch.Tensor], floor: Sequence[int]) -> Listed:
    """Heads or units of all layers by their scores."""
    floors = [keep_top(score, count).tolist() for score, count in zip(scores, floor, strict=True)]
    rest = [
        Item(value, layer, index)
        for layer, score in enumerate(scores)
        for index, value in enumerate(score.double().tolist())
        if index not in set(floors[layer])
    ]
    rest.sort(key=lambda item: -item.score)
    return Listed(tuple(map(tuple, floors)), tuple(rest))
