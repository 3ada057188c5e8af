"""What RoBERTa and its like have: positions that begin behind the padding's, and a head.

The first rows of its positions, up to that of the padding, belong to no token and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rosita_core.model.families import Config
from rosita_core.model.families.bert_layout import DEFAULTS, POSITIONS, LikeBert, bert_like

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaConfig

PAD = 1
ROBERTA: Mapping[str, int] = {
    **DEFAULTS,
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
}
BODY = ("embeddings", "encoder")
HEAD = {"classifier.dense.": "bert.pooler.dense.", "classifier.out_proj.": "classifier."}
"""What a classifier of this kind calls the layers that ours calls pooler and classifier."""


@dataclass(frozen=True)
class LikeRoberta(LikeBert):
    """See `Family`; a family says what its classifier is called."""

    defaults: ClassVar[Mapping[str, int]] = ROBERTA
    classifier: ClassVar[str]

    def completed(self, config: Config, source: str) -> Config:
        """See `Family`."""
        whole = super().completed({"pad_token_id": PAD, **config}, source)
        pad = whole["pad_token_id"]
        if type(pad) is not int or pad < 0:
            raise ValueError(
                f"model must have a pad_token_id of at least 0, got {pad!r} in {source}"
            )
        if whole["max_position_embeddings"] <= self.skipped_rows(POSITIONS, whole):
            raise ValueError(
                f"model must have max_position_embeddings above its pad_token_id + 1, got "
                f"{whole['max_position_embeddings']} in {source}"
            )
        return whole

    def name(self, tensor: str) -> str:
        """See `Family`. The pooler of the encoder is not read by a classifier of this kind."""
        whole = f"roberta.{tensor}" if tensor.partition(".")[0] in BODY else tensor
        return named_with_head(whole, "roberta.")

    def is_classifier(self, config: Config) -> bool:
        """See `Family`."""
        return self.classifier in (config.get("architectures") or [])

    def skipped_rows(self, name: str, config: Config) -> int:
        """See `Family`."""
        return int(config["pad_token_id"]) + 1 if name == POSITIONS else 0

    def config(self, config: Config, outputs: int) -> RositaConfig:
        """See `Family`."""
        shape = self.shape(config, outputs)
        return bert_like(shape, config, positions_skip_padding=True, head_dropout=True)


def named_with_head(tensor: str, body: str) -> str:
    """Our name of a tensor, where the encoder's begin with `body` and a classifier has `HEAD`."""
    for theirs, ours in HEAD.items():
        if tensor.startswith(theirs):
            return ours + tensor.removeprefix(theirs)
    if tensor.startswith(body) and not tensor.startswith(f"{body}pooler."):
        return f"bert.{tensor.removeprefix(body)}"
    return tensor
