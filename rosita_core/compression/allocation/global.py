"""The allocation of Kwon and others (2022): one list of heads and one of units, of all layers.

After the authors' code: for each number of heads as many units as the rest pays for; the numbers
with the largest sum of scores win. That is optimal where all heads cost the same and all units.
Their search leaves layers without any head or unit, therefore floors are paid first.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from rosita_core.compression.budgets.budget import Purse
from rosita_core.compression.budgets.spending import Spending, best_first
from rosita_core.compression.importance import Importance
from rosita_core.compression.kept import Kept
from rosita_core.model.shape import Shape


@dataclass(frozen=True)
class Global(Spending):
    """The largest sum of scores that the purse pays for."""

    def spend(self, shape: Shape, ranking: Importance, purse: Purse) -> Kept:
        """See `Spending`; of equal sums the one that costs more."""
        heads = best_first(ranking.heads, purse.floor_heads)
        units = best_first(ranking.ffn_units, purse.floor_units)
        head_sums = [0.0, *accumulate(item.score for item in heads.rest)]
        unit_sums = [0.0, *accumulate(item.score for item in units.rest)]
        left = purse.limit - purse.least
        best: tuple[float, int] | None = None
        chosen = 0, 0
        for more in range(min(len(heads.rest), left // purse.head) + 1):
            others = min(len(units.rest), (left - more * purse.head) // purse.unit)
            if more < len(heads.rest) and purse.cost(more + 1, others) <= left:
                # Heads that lower the sum stay, too, while they are paid for.
                continue
            found = head_sums[more] + unit_sums[others], purse.cost(more, others)
            if best is None or found > best:
                best, chosen = found, (more, others)
        return Kept(
            tuple(range(shape.layers)),
            heads.with_some(heads.rest[: chosen[0]]),
            units.with_some(units.rest[: chosen[1]]),
            shape.embedding_rank,
        )
