"""What a kernel tells its caller while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CHOICE = "choice"
"""The metric by which weights are the best, where it is not the score."""


@dataclass(frozen=True)
class Progress:
    """One observation of a running kernel.

    Attributes:
        step: units done so far (optimizer steps, rows, batches).
        total_steps: units in all.
        metrics: named numbers at this step, such as train/loss or dev/score.
        shape: the model's shape now, or None where there is no model.
        message: a line for the reader, such as a prune event, or None.
        phase: of a kernel that counts its units anew for another phase: the name of this one. None
            for the phase that makes the result.
    """

    step: int
    total_steps: int
    metrics: dict[str, float]
    shape: str | None
    message: str | None
    phase: str | None = None


Report = Callable[[Progress], None]
