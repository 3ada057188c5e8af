"""A compressed model as the checkpoint that the stage `export` writes first."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rosita_core.export import CHECKPOINT, TORCH, Format
from rosita_core.model.checkpoint import load
from rosita_core.model.classifier import Classifier


@dataclass(frozen=True)
class HuggingFace(Format):
    """What `checkpoint.py` writes, as it is."""

    name: ClassVar[str] = CHECKPOINT
    engine: ClassVar[str] = TORCH

    def write(self, checkpoint: Path, folder: Path) -> None:
        """See `Format`; other formats that lie below the checkpoint are left out."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in checkpoint.iterdir():
            if path.is_file():
                shutil.copyfile(path, folder / path.name)

    def load(self, folder: Path, threads: int) -> Classifier:
        """See `Format`; the threads are torch's own."""
        return load(folder)

    def complaint(self, worst: float, points_lost: float) -> str | None:
        """See `Format`; it has the weights themselves."""
        return None
