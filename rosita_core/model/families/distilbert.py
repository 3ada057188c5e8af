"""DistilBERT (Sanh et al., 2019): BERT without token types, whose head has a relu.

Its attention has no dropout before it joins the residual stream; ours has the one of BERT there,
which only training notices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rosita_core.model.families import Config, check_settings, check_sizes
from rosita_core.model.families.bert_layout import DEFAULTS, LikeBert, bert_like

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaConfig

SIZES: Mapping[str, str] = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
}
SETTINGS: Mapping[str, str] = {
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "seq_classif_dropout": "classifier_dropout",
    "activation": "hidden_act",
}
"""What it calls what BERT has under another name."""
LEFT_OUT: Mapping[str, Any] = {
    "num_hidden_layers": 6,
    "classifier_dropout": 0.2,
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-12,
}
CLASSIFIER = "DistilBertForSequenceClassification"
BODY = ("embeddings", "transformer")
RENAMED = {
    "distilbert.": "bert.",
    "pre_classifier.": "bert.pooler.dense.",
    "transformer.layer.": "encoder.layer.",
    ".attention.q_lin.": ".attention.self.query.",
    ".attention.k_lin.": ".attention.self.key.",
    ".attention.v_lin.": ".attention.self.value.",
    ".attention.out_lin.": ".attention.output.dense.",
    ".sa_layer_norm.": ".attention.output.LayerNorm.",
    ".ffn.lin1.": ".intermediate.dense.",
    ".ffn.lin2.": ".output.dense.",
    ".output_layer_norm.": ".output.LayerNorm.",
}


@dataclass(frozen=True)
class Distilbert(LikeBert):
    """See `Family`."""

    def completed(self, config: Config, source: str) -> Config:
        """See `Family`."""
        named = {SIZES.get(name, SETTINGS.get(name, name)): config[name] for name in config}
        whole = {**DEFAULTS, **LEFT_OUT, **named}
        check_sizes(whole, (*SIZES.values(), "vocab_size", "max_position_embeddings"), source)
        check_settings(whole, source)
        return {**whole, "type_vocab_size": 0}

    def name(self, tensor: str) -> str:
        """See `Family`."""
        whole = f"distilbert.{tensor}" if tensor.partition(".")[0] in BODY else tensor
        for theirs, ours in RENAMED.items():
            whole = whole.replace(theirs, ours, 1)
        return whole

    def is_classifier(self, config: Config) -> bool:
        """See `Family`."""
        return CLASSIFIER in (config.get("architectures") or [])

    def config(self, config: Config, outputs: int) -> RositaConfig:
        """See `Family`."""
        return bert_like(self.shape(config, outputs), config, head_act="relu")
