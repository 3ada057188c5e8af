"""How much of a teacher's outputs stages keep, before they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flows.engine.graph import Vertex
from flows.planning.estimates import rows_read
from rosita_core.distillation.kept import kept_bytes
from rosita_core.stages.targets import TargetsSettings
from tasks.cache.records import StageResult

MB = 1e6
MB_PER_GB = 1e3


@dataclass(frozen=True)
class Keeping:
    """What one stage keeps.

    Attributes:
        stage: its name.
        megabytes: that the outputs take (10^6 bytes); None where the rows are not known yet.
        most_megabytes: where they would take more, nothing is kept; None for no bound.
        measured: whether the stage has run; otherwise the number is a guess from the rows.
    """

    stage: str
    megabytes: float | None
    most_megabytes: float | None
    measured: bool

    @property
    def line(self) -> str:
        """In words."""
        if self.megabytes is None:
            return f"What {self.stage} keeps of its teacher's outputs is known with its rows only."
        size = f"{'' if self.measured else 'about '}{self.megabytes:,.1f} MB"
        if self.most_megabytes is not None and self.megabytes > self.most_megabytes:
            most = f"{self.most_megabytes / MB_PER_GB:g}"
            return f"{self.stage} would keep {size}, more than kd.cache_gb {most}: nothing is kept."
        return f"{self.stage} keeps {size} of its teacher's outputs."


def keeping(
    vertex: Vertex, results: Mapping[str, StageResult], lengths: np.ndarray | None
) -> Keeping | None:
    """What a stage keeps; None where it is of another kind.

    Args:
        vertex: the stage.
        results: id -> result of the stages that are cached.
        lengths: (N,) tokens of training rows, or of some, special tokens included; their variants
            are taken to be as long. None where none is known.
    """
    settings = vertex.node.config
    if not isinstance(settings, TargetsSettings):
        return None
    most = None if settings.most_gb is None else settings.most_gb * MB_PER_GB
    if (done := results.get(vertex.id)) is not None:
        return Keeping(vertex.name, float(done.metrics["needed_mb"]), most, True)
    rows, size = rows_read(vertex, results), None
    if rows is not None and lengths is not None and len(lengths):
        tokens = rows * float(np.minimum(lengths, settings.max_length).mean())
        size = kept_bytes(vertex.request.teacher, rows, tokens, len(settings.states)) / MB
    return Keeping(vertex.name, size, most, False)
