"""A compressed model as files that others can load, one file per format."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from rosita_core.export.model_card import CardFacts
from rosita_core.model.modeling_rosita import RositaForSequenceClassification


class Format(Protocol):
    """One way to write a model."""

    def write(
        self,
        model: RositaForSequenceClassification,
        tokenizer_dir: Path,
        labels: tuple[str, ...],
        card: CardFacts,
        folder: Path,
    ) -> None:
        """Write `model` into `folder` with all that is needed to use it.

        The same arguments give the same bytes.

        Args:
            model: it is not changed.
            tokenizer_dir: where the tokenizer's files lie.
            labels: class names in index order, empty for regression.
            card: what the model card says.
            folder: made where it is missing; files in it are replaced.

        Raises:
            ValueError: where these do not fit each other.
        """
