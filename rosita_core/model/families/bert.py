"""BERT (Devlin et al., 2019) and what shares its architecture, such as MiniLM."""

from __future__ import annotations

from dataclasses import dataclass

from rosita_core.model.families import Config
from rosita_core.model.families.bert_layout import LikeBert

CLASSIFIER = "BertForSequenceClassification"
BODY = ("embeddings", "encoder", "pooler")
"""Parts whose names have no leading "bert." where a checkpoint was saved without a head."""
TENSORFLOW_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


@dataclass(frozen=True)
class Bert(LikeBert):
    """See `Family`."""

    def name(self, tensor: str) -> str:
        """See `Family`."""
        whole = f"bert.{tensor}" if tensor.partition(".")[0] in BODY else tensor
        for old, new in TENSORFLOW_NAMES.items():
            whole = whole.replace(old, new)
        return whole

    def is_classifier(self, config: Config) -> bool:
        """See `Family`."""
        return CLASSIFIER in (config.get("architectures") or [])
