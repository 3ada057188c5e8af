"""XLM-RoBERTa (Conneau et al., 2020): RoBERTa over many languages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rosita_core.model.families.roberta_layout import LikeRoberta


@dataclass(frozen=True)
class XlmRoberta(LikeRoberta):
    """See `Family`."""

    classifier: ClassVar[str] = "XLMRobertaForSequenceClassification"
