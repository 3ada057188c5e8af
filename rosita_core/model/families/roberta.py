"""RoBERTa (Liu et al., 2019): see `roberta_layout` for what it has otherwise than BERT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rosita_core.model.families.roberta_layout import LikeRoberta


@dataclass(frozen=True)
class Roberta(LikeRoberta):
    """See `Family`."""

    classifier: ClassVar[str] = "RobertaForSequenceClassification"
