"""Which heads and units stay, given what they are worth: one file per allocation."""

from __future__ import annotations

from typing import Protocol

from rosita_core.compression.importance import Importance
from rosita_core.compression.kept import Kept
from rosita_core.model.shape import Shape


class Allocation(Protocol):
    """Chooses what is kept."""

    def choose(
        self, shape: Shape, target: Shape, layers: tuple[int, ...], ranking: Importance
    ) -> Kept:
        """The heads and units of `layers` that stay.

        Args:
            shape: of the model that was ranked.
            target: what shall remain; one entry per element of `layers`.
            layers: which layers of the model stay, ascending.
            ranking: scores per layer of the model.

        Raises:
            ValueError: where the target cannot be reached.
        """
