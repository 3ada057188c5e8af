"""What this package compressed or saved before: a checkpoint of its own model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosita_core.model.families import (
    Config,
    Family,
    check_positions,
    check_settings,
    check_sizes,
    problem_type,
)
from rosita_core.model.shape import Frame, Shape

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaConfig

SIZES = (
    "vocab_size",
    "hidden_size",
    "head_size",
    "layer_heads",
    "layer_ffn_units",
    "max_position_embeddings",
)
TYPES = "type_vocab_size"
RANK = "embedding_rank"
OPTIONAL = (RANK, "embedding_size")
PROJECTION = "bert.embeddings.word_embeddings.projection"
FORMER_PROJECTION = "bert.embeddings.projection"
NOT_KEPT = ("id2label", "label2id", "num_labels", "return_dict", "dtype", "torch_dtype")
"""Said anew for a model with its outputs, which computes in float32 and returns what it does."""


@dataclass(frozen=True)
class Rosita(Family):
    """See `Family`. Everything that such a configuration needs stands in it."""

    def completed(self, config: Config, source: str) -> Config:
        """See `Family`."""
        given = [name for name in OPTIONAL if config.get(name) is not None]
        # A model without token types says 0.
        types = (TYPES,) if config.get(TYPES) != 0 else ()
        check_sizes(config, (*SIZES, *types, *given), source)
        check_positions(config, source)
        check_settings(config, source)
        return config

    def shape(self, config: Config, outputs: int) -> Shape:
        """See `Family`."""
        frame = Frame(
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            head_size=config["head_size"],
            max_positions=config["max_position_embeddings"],
            token_types=config[TYPES],
            outputs=outputs,
            embedding_size=config.get("embedding_size"),
        )
        heads, units = tuple(config["layer_heads"]), tuple(config["layer_ffn_units"])
        return Shape(frame, heads, units, config[RANK])

    def name(self, tensor: str) -> str:
        """See `Family`."""
        return tensor.replace(FORMER_PROJECTION, PROJECTION)

    def is_classifier(self, config: Config) -> bool:
        """See `Family`."""
        return True

    def skipped_rows(self, name: str, config: Config) -> int:
        """See `Family`."""
        return 0

    def config(self, config: Config, outputs: int) -> RositaConfig:
        """See `Family`."""
        from rosita_core.model.modeling_rosita import RositaConfig

        values = {name: value for name, value in config.items() if name not in NOT_KEPT}
        return RositaConfig.from_dict(
            values | {"num_labels": outputs, "problem_type": problem_type(outputs)}
        )
