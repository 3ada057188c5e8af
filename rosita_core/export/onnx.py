"""A compressed model as an ONNX graph in float32, with a runtime of one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rosita_core.export import ONNX, Format
from rosita_core.export.graph import GraphClassifier, write_graph, write_runtime
from rosita_core.model.checkpoint import load
from rosita_core.model.classifier import Classifier

WORST = 1e-4
"""What may be rounding: of a logit, or of a number in deviations of the labels."""


@dataclass(frozen=True)
class Onnx(Format):
    """model.onnx, the tokenizer, config.json and predict.py."""

    name: ClassVar[str] = "onnx"
    engine: ClassVar[str] = ONNX

    def write(self, checkpoint: Path, folder: Path) -> None:
        """See `Format`."""
        write_runtime(checkpoint, folder)
        write_graph(load(checkpoint), folder)

    def load(self, folder: Path, threads: int) -> Classifier:
        """See `Format`."""
        return GraphClassifier(folder, threads)

    def complaint(self, worst: float, points_lost: float) -> str | None:
        """See `Format`."""
        if worst <= WORST:
            return None
        return f"its logits must be within {WORST:g} of the checkpoint's, got {worst:.3g}"
