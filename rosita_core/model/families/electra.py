"""ELECTRA (Clark et al., 2020): BERT whose embeddings may be narrower, with a head of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rosita_core.model.families import Config
from rosita_core.model.families.bert_layout import DEFAULTS, LikeBert, bert_like
from rosita_core.model.families.roberta_layout import named_with_head

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaConfig

WIDTH = "embedding_size"
# As transformers has it: ELECTRA-small.
ELECTRA: Mapping[str, int] = {
    **DEFAULTS,
    WIDTH: 128,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
}
CLASSIFIER = "ElectraForSequenceClassification"
BODY = ("embeddings", "embeddings_project", "encoder")


@dataclass(frozen=True)
class Electra(LikeBert):
    """See `Family`."""

    defaults: ClassVar[Mapping[str, int]] = ELECTRA

    def embedding_size(self, config: Config) -> int | None:
        """See `LikeBert`."""
        return None if config[WIDTH] == config["hidden_size"] else int(config[WIDTH])

    def name(self, tensor: str) -> str:
        """See `Family`."""
        whole = f"electra.{tensor}" if tensor.partition(".")[0] in BODY else tensor
        projection = ("electra.embeddings_project.", "electra.embeddings.hidden_projection.")
        return named_with_head(whole.replace(*projection), "electra.")

    def is_classifier(self, config: Config) -> bool:
        """See `Family`."""
        return CLASSIFIER in (config.get("architectures") or [])

    def config(self, config: Config, outputs: int) -> RositaConfig:
        """See `Family`."""
        shape = self.shape(config, outputs)
        return bert_like(shape, config, head_act="gelu", head_dropout=True)
