"""CamemBERT (Martin et al., 2020): RoBERTa for French."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rosita_core.model.families.roberta_layout import LikeRoberta


@dataclass(frozen=True)
class Camembert(LikeRoberta):
    """See `Family`."""

    classifier: ClassVar[str] = "CamembertForSequenceClassification"
