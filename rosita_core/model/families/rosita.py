"""What this package compressed or saved before: a checkpoint of its own model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosita_core.model.families import Config, Family, check_positions, check_sizes
from rosita_core.model.shape import Frame, Shape

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification

SIZES = (
    "vocab_size",
    "hidden_size",
    "head_size",
    "layer_heads",
    "layer_ffn_units",
    "max_position_embeddings",
    "type_vocab_size",
)
RANK = "embedding_rank"
LABELS = ("id2label", "label2id")


@dataclass(frozen=True)
class Rosita(Family):
    """See `Family`. Everything that such a configuration needs stands in it."""

    def completed(self, config: Config, source: str) -> Config:
        """See `Family`."""
        rank = () if config.get(RANK) is None else (RANK,)
        check_sizes(config, (*SIZES, *rank), source)
        check_positions(config, source)
        return config

    def shape(self, config: Config, outputs: int) -> Shape:
        """See `Family`."""
        frame = Frame(
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            head_size=config["head_size"],
            max_positions=config["max_position_embeddings"],
            token_types=config["type_vocab_size"],
            outputs=outputs,
        )
        heads, units = tuple(config["layer_heads"]), tuple(config["layer_ffn_units"])
        return Shape(frame, heads, units, config[RANK])

    def tensors(self, config: Config) -> dict[str, tuple[int, ...]]:
        """See `Family`."""
        hidden = config["hidden_size"]
        rank = config[RANK] or hidden
        words = "embeddings.word_embeddings.weight"
        expected: dict[str, tuple[int, ...]] = {words: (config["vocab_size"], rank)}
        for layer, units in enumerate(config["layer_ffn_units"]):
            expected[f"encoder.layer.{layer}.intermediate.dense.weight"] = (units, hidden)
        return expected

    def name(self, tensor: str) -> str:
        """See `Family`."""
        return tensor.removeprefix("bert.")

    def is_classifier(self, config: Config) -> bool:
        """See `Family`."""
        return True

    def config(self, config: Config, outputs: int, problem_type: str) -> RositaConfig:
        """See `Family`. The classes keep their names where there are as many."""
        from rosita_core.model.modeling_rosita import RositaConfig

        values = {**config, "problem_type": problem_type}
        if RositaConfig.from_dict(dict(config)).outputs == outputs:
            return RositaConfig.from_dict(values)
        values = {name: value for name, value in values.items() if name not in LABELS}
        return RositaConfig.from_dict(values | {"num_labels": outputs})

    def load(
        self, source: str, outputs: int, problem_type: str, seed: int
    ) -> RositaForSequenceClassification:
        """See `Family`."""
        from rosita_core.model.checkpoint import build, fresh, load

        model = load(source)
        config = self.config(model.config.to_dict(), outputs, problem_type)
        state = model.state_dict()
        if model.config.outputs != outputs:
            drawn = fresh(config, seed).state_dict()
            state |= {n: t for n, t in drawn.items() if n.startswith("classifier.")}
        return build(config, state).eval()
