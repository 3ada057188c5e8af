"""BERT (Devlin et al., 2019) and what shares its architecture, such as MiniLM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosita_core.model.families import (
    Config,
    Family,
    check_positions,
    check_sizes,
    problem_type,
)
from rosita_core.model.shape import Frame, Shape, uniform_shape

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaConfig

# What a configuration leaves out is as in BERT-base, as transformers has it.
DEFAULTS: Mapping[str, int] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
CLASSIFIER = "BertForSequenceClassification"
BODY = ("embeddings", "encoder", "pooler")
"""Parts whose names have no leading "bert." where a checkpoint was saved without a head."""
TENSORFLOW_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


@dataclass(frozen=True)
class Bert(Family):
    """See `Family`."""

    def completed(self, config: Config, source: str) -> Config:
        """See `Family`."""
        whole = {**DEFAULTS, **config}
        check_sizes(whole, tuple(DEFAULTS), source)
        check_positions(whole, source)
        return whole

    def shape(self, config: Config, outputs: int) -> Shape:
        """See `Family`."""
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        if hidden % heads:
            raise ValueError(
                f"model must have a hidden size divisible by its {heads} heads, got {hidden}"
            )
        frame = Frame(
            vocab_size=config["vocab_size"],
            hidden_size=hidden,
            head_size=hidden // heads,
            max_positions=config["max_position_embeddings"],
            token_types=config["type_vocab_size"],
            outputs=outputs,
        )
        layers, units = config["num_hidden_layers"], config["intermediate_size"]
        return uniform_shape(frame, heads, layers, units, None)

    def name(self, tensor: str) -> str:
        """See `Family`."""
        whole = f"bert.{tensor}" if tensor.partition(".")[0] in BODY else tensor
        for old, new in TENSORFLOW_NAMES.items():
            whole = whole.replace(old, new)
        return whole

    def is_classifier(self, config: Config) -> bool:
        """See `Family`."""
        return CLASSIFIER in (config.get("architectures") or [])

    def config(self, config: Config, outputs: int) -> RositaConfig:
        """See `Family`."""
        from transformers import BertConfig

        from rosita_core.model.modeling_rosita import RositaConfig

        source = BertConfig.from_dict(dict(config))
        layers = source.num_hidden_layers
        return RositaConfig(
            vocab_size=source.vocab_size,
            hidden_size=source.hidden_size,
            head_size=source.hidden_size // source.num_attention_heads,
            layer_heads=[source.num_attention_heads] * layers,
            layer_ffn_units=[source.intermediate_size] * layers,
            embedding_rank=None,
            max_position_embeddings=source.max_position_embeddings,
            type_vocab_size=source.type_vocab_size,
            hidden_act=source.hidden_act,
            hidden_dropout_prob=source.hidden_dropout_prob,
            attention_probs_dropout_prob=source.attention_probs_dropout_prob,
            classifier_dropout=source.classifier_dropout,
            layer_norm_eps=source.layer_norm_eps,
            pad_token_id=source.pad_token_id,
            initializer_range=source.initializer_range,
            num_labels=outputs,
            problem_type=problem_type(outputs),
        )
