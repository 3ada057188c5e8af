"""One tolerance for all sub-layers: what is small beside the best of its own sub-layer goes.

Our inference from the error bound of Flynn and others, "STAT" (2024), of which the abstract and a
summary were read: each sub-layer keeps the first k, k the least with |R_kk| <= eps |R_11|, with the
least eps that the budget allows for all; the rest of the budget is filled up by |R_kk| per cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rosita_core.compression.budgets.budget import Purse
from rosita_core.compression.budgets.spending import Item, Spending, best_first
from rosita_core.compression.importance import Importance
from rosita_core.compression.kept import Kept
from rosita_core.model.shape import Shape


@dataclass(frozen=True)
class Tolerance(Spending):
    """What is above the tolerance, and what else the purse pays for."""

    def spend(self, shape: Shape, ranking: Importance, purse: Purse) -> Kept:
        """See `Spending`."""
        heads = best_first(ranking.heads, purse.floor_heads)
        units = best_first(ranking.ffn_units, purse.floor_units)
        waiting = [
            *((_relative(item, ranking.heads), purse.head, item, True) for item in heads.rest),
            *((_relative(item, ranking.ffn_units), purse.unit, item, False) for item in units.rest),
        ]
        waiting.sort(key=lambda entry: -entry[0])
        left = purse.limit - purse.least
        taken: dict[bool, list[Item]] = {True: [], False: []}
        # The least eps that the budget allows lets in all above the first that is too dear.
        above = 0
        for _, cost, item, is_head in waiting:
            if cost > left:
                break
            left -= cost
            taken[is_head].append(item)
            above += 1
        for _, cost, item, is_head in sorted(waiting[above:], key=lambda e: -e[2].score / e[1]):
            if cost <= left:
                left -= cost
                taken[is_head].append(item)
        return Kept(
            tuple(range(shape.layers)),
            heads.with_some(taken[True]),
            units.with_some(taken[False]),
            shape.embedding_rank,
        )


def _relative(item: Item, scores: tuple[torch.Tensor, ...]) -> float:
    """The score beside the best of its sub-layer."""
    best = float(scores[item.layer].max())
    return item.score / best if best > 0 else 0.0
