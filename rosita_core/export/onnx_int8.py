"""A compressed model as an ONNX graph whose weights are int8, with a runtime of one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from rosita_core.export import ONNX, Format
from rosita_core.export.graph import GraphClassifier, quantize, write_graph, write_runtime
from rosita_core.model.checkpoint import load
from rosita_core.model.classifier import Classifier


@dataclass(frozen=True)
class OnnxInt8(Format):
    """As `Onnx`; a quarter of its size.

    Attributes:
        int8_loss: points of score, each a hundredth, that it may lose.
    """

    int8_loss: float

    name: ClassVar[str] = "onnx-int8"
    engine: ClassVar[str] = ONNX

    def write(self, checkpoint: Path, folder: Path) -> None:
        """See `Format`."""
        write_runtime(checkpoint, folder)
        with TemporaryDirectory() as whole:
            write_graph(load(checkpoint), Path(whole))
            quantize(Path(whole), folder)

    def load(self, folder: Path, threads: int) -> Classifier:
        """See `Format`."""
        return GraphClassifier(folder, threads)

    def complaint(self, worst: float, points_lost: float) -> str | None:
        """See `Format`."""
        if points_lost <= self.int8_loss:
            return None
        return (
            f"it must lose at most {self.int8_loss:g} points of score (export.int8_loss), "
            f"got {points_lost:.2f}"
        )
