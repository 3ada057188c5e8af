"""What every family has that is BERT but for some options: sizes by their names, and our
configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rosita_core.model.families import (
    Config,
    Family,
    check_positions,
    check_settings,
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
LIKE_BERT = (
    *("hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    *("layer_norm_eps", "pad_token_id", "initializer_range"),
)
"""Settings that a configuration takes over, and that BERT-base decides where it has none."""
POSITIONS = "bert.embeddings.position_embeddings.weight"


@dataclass(frozen=True)
class LikeBert(Family):
    """See `Family`; a family says what its tensors and its classifier are called.

    Attributes:
        defaults: the sizes that its configuration may leave out.
    """

    defaults: ClassVar[Mapping[str, int]] = DEFAULTS

    def completed(self, config: Config, source: str) -> Config:
        """See `Family`."""
        whole = {**self.defaults, **config}
        check_sizes(whole, tuple(self.defaults), source)
        check_positions(whole, source)
        check_settings(whole, source)
        return whole

    def shape(self, config: Config, outputs: int) -> Shape:
        """See `Family`."""
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        if hidden % heads:
            raise ValueError(
                f"model must have a hidden size divisible by its {heads} heads, got {hidden}"
            )
        unused = self.skipped_rows(POSITIONS, config)
        frame = Frame(
            vocab_size=config["vocab_size"],
            hidden_size=hidden,
            head_size=hidden // heads,
            max_positions=config["max_position_embeddings"] - unused,
            token_types=config["type_vocab_size"],
            outputs=outputs,
            embedding_size=self.embedding_size(config),
        )
        layers, units = config["num_hidden_layers"], config["intermediate_size"]
        return uniform_shape(frame, heads, layers, units, None)

    def embedding_size(self, config: Config) -> int | None:
        """The width of the embeddings where it is not the hidden size."""
        return None

    def skipped_rows(self, name: str, config: Config) -> int:
        """See `Family`."""
        return 0

    def config(self, config: Config, outputs: int) -> RositaConfig:
        """See `Family`."""
        return bert_like(self.shape(config, outputs), config)


def bert_like(shape: Shape, config: Config, **options: Any) -> RositaConfig:
    """The configuration of a model of `shape`; a completed `config` says what no size says.

    `options` are what a family has otherwise than BERT; see `RositaConfig`.
    """
    from transformers import BertConfig

    from rosita_core.model.modeling_rosita import RositaConfig

    named = {name: config[name] for name in LIKE_BERT if name in config}
    source = BertConfig(**named)
    return RositaConfig(
        vocab_size=shape.frame.vocab_size,
        hidden_size=shape.frame.hidden_size,
        head_size=shape.frame.head_size,
        layer_heads=list(shape.layer_heads),
        layer_ffn_units=list(shape.layer_ffn_units),
        embedding_rank=None,
        embedding_size=shape.frame.embedding_size,
        max_position_embeddings=shape.frame.max_positions,
        type_vocab_size=shape.frame.token_types,
        num_labels=shape.frame.outputs,
        problem_type=problem_type(shape.frame.outputs),
        **{name: getattr(source, name) for name in LIKE_BERT},
        **options,
    )
