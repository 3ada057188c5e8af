"""Encoders that can be compressed, one file per `model_type` of config.json.

A file's name is the `model_type` that it reads. None imports torch before it is asked for a model's
configuration, so that sizes can be listed quickly and before anything is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from rosita_core.model.shape import Shape
from rosita_core.plug_ins import load, names

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaConfig

ROOM = "model.families"
LAYERS = ("num_hidden_layers", "n_layers")
MOST_LAYERS, MOST_SIZE = 1000, 10**8
RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob")
SWITCHES = ("positions_skip_padding", "head_dropout")
ACTIVATIONS = ("hidden_act", "head_act")
Config = Mapping[str, Any]
"""What config.json says."""


class Family(Protocol):
    """From a checkpoint of one kind to the model of this package."""

    def completed(self, config: Config, source: str) -> Config:
        """`config` with the sizes that it leaves out, under the names that BERT has for them.

        Raises:
            ValueError: naming `source`, where a size is wrong or something is not supported.
        """

    def shape(self, config: Config, outputs: int) -> Shape:
        """The shape of the classifier with `outputs` outputs that a completed `config` describes.

        Raises:
            ValueError: where the sizes do not fit each other.
        """

    def name(self, tensor: str) -> str:
        """The name of a checkpoint's tensor in our model; of others than ours, any other name."""

    def is_classifier(self, config: Config) -> bool:
        """Whether the checkpoint has a trained classifier."""

    def skipped_rows(self, name: str, config: Config) -> int:
        """How many rows at the start of a tensor, by its name in our model, have no place there."""

    def config(self, config: Config, outputs: int) -> RositaConfig:
        """The configuration of the model with `outputs` outputs, under default class names."""


def family_of(config: object, source: str) -> Family:
    """The family that reads a checkpoint, by its `model_type`.

    Raises:
        ValueError: naming the families that there are.
    """
    found = config.get("model_type") if isinstance(config, Mapping) else type(config).__name__
    if found not in names(ROOM):
        raise ValueError(
            f"model must be of an architecture in {', '.join(names(ROOM))}, got {found!r} "
            f"in {source}"
        )
    family: Family = load(ROOM, str(found))()
    return family


def check_supported(config: Config, source: str) -> None:
    """Whether a checkpoint is an encoder, or a classifier of whole texts, that can be compressed.

    Raises:
        ValueError: naming what it is instead.
    """
    kinds = config.get("architectures") or []
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise ValueError(f"model must have a list of architectures, got {kinds!r} in {source}")
    for kind in kinds:
        if kind.endswith("ForTokenClassification"):
            raise ValueError(
                f"model must classify whole texts, got token classification in {source}"
            )
    problem = config.get("problem_type")
    if problem == "multi_label_classification":
        raise ValueError(
            f"model must predict one class or number, got multi-label classification in {source}"
        )
    outputs = config.get("id2label") or {}
    if problem == "regression" and len(outputs) > 1:
        raise ValueError(
            f"model must predict one class or number, got {len(outputs)} numbers in {source}"
        )
    if config.get("pruned_heads"):
        raise ValueError(
            f"model must have all heads of its attention, got pruned_heads "
            f"{config['pruned_heads']} in {source}"
        )
    for field in ("is_decoder", "is_encoder_decoder", "add_cross_attention", "quantization_config"):
        if config.get(field):
            raise ValueError(f"model must be an encoder in floats, got {field} in {source}")


def problem_type(outputs: int) -> str:
    """What transformers calls a task of so many outputs; one is a number and no class."""
    return "regression" if outputs == 1 else "single_label_classification"


def check_sizes(config: Config, sizes: tuple[str, ...], source: str) -> None:
    """Whether every size of a configuration is a number of at least 1, or a list of them.

    Raises:
        ValueError: naming the first that is not.
    """
    for field in sizes:
        value = config.get(field)
        many = field.startswith("layer_") and isinstance(value, list)
        entries: list[Any] = value if many and isinstance(value, list) else [value]
        if not entries or any(type(size) is not int or size < 1 for size in entries):
            raise ValueError(f"model must have a {field} of at least 1, got {value!r} in {source}")
        # Whoever writes more has slipped, and a model of it would take hours to be made.
        layers = entries[0] if field in LAYERS else len(entries)
        if max(entries) > MOST_SIZE or layers > MOST_LAYERS:
            most = MOST_LAYERS if layers > MOST_LAYERS else MOST_SIZE
            raise ValueError(
                f"model must have a {field} of at most {most:,}, got {value!r:.80} in {source}"
            )


def check_settings(config: Config, source: str) -> None:
    """Whether the settings that decide a model's answers are of their kinds, where they are given.

    Raises:
        ValueError: naming the first that is not.
    """
    for fields, fits, bound in (
        (("layer_norm_eps",), _is_small, "a number of at least 0 and below 1"),
        (RATES, _is_small, "a number of at least 0 and below 1"),
        (("text_pair",), lambda value: value is None or isinstance(value, bool), "true or false"),
        (SWITCHES, lambda value: isinstance(value, bool), "true or false"),
        (ACTIVATIONS, lambda value: isinstance(value, str), "the name of a function"),
    ):
        for field in fields:
            if field in config and not fits(config[field]):
                raise ValueError(
                    f"model must have a {field} that is {bound}, got {config[field]!r:.80} "
                    f"in {source}"
                )


def _is_small(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1


def check_positions(config: Config, source: str) -> None:
    """Whether positions are embedded absolutely, as our model does.

    Raises:
        ValueError: naming what they are.
    """
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise ValueError(
            f"model must have absolute position embeddings, got {positions!r} in {source}"
        )
