"""A compressed model as files that others can load, one file per format."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Protocol

from rosita_core.model.classifier import Classifier

CHECKPOINT = "hugging-face"
"""The format that all others are made of."""


COLUMNS = "rosita_columns"
"""In config.json: role (text_a, text_b, label) -> the column of the data that it was trained on."""
CLASSES = "rosita_classes"
"""In config.json: what that data calls the classes, in their order, where the model has other names
for them."""
GRAPH = "model.onnx"
TORCH, ONNX = "torch", "onnx"
"""What computes a model; see `rosita_core.measuring.engines`."""


class Format(Protocol):
    """One way to write a model.

    Attributes:
        name: as recipes write it.
        engine: what computes it.
    """

    name: ClassVar[str]
    engine: ClassVar[str]

    def write(self, checkpoint: Path, folder: Path) -> None:
        """Write a model into `folder` with all that is needed to use it.

        The same checkpoint gives the same bytes.

        Args:
            checkpoint: a Hugging Face checkpoint, as the stage `export` writes one.
            folder: made where it is missing; files in it are replaced.
        """

    def load(self, folder: Path, threads: int) -> Classifier:
        """What was written, ready to answer on the CPU.

        Raises:
            ValueError: where it has other inputs than the model.
        """

    def complaint(self, worst: float, points_lost: float) -> str | None:
        """Why it does not say what the checkpoint says; None where it may be shipped.

        Args:
            worst: the largest absolute difference of a logit; of a regression, in deviations of the
                labels.
            points_lost: by how many hundredths its score is lower.
        """


def place(export: Path, name: str) -> Path:
    """Where a format lies in the folder of an export."""
    return export if name == CHECKPOINT else export / name
