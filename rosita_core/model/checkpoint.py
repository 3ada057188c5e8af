"""The model of this package: built, copied, placed, and to and from a directory."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from rosita_core.model.shape import Frame, Shape

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification


def shape_of(config: RositaConfig) -> Shape:
    """The shape that a model of `config` has."""
    frame = Frame(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        head_size=config.head_size,
        max_positions=config.max_position_embeddings,
        token_types=config.type_vocab_size,
        outputs=config.outputs,
        embedding_size=config.embedding_size,
    )
    heads, units = tuple(config.layer_heads), tuple(config.layer_ffn_units)
    return Shape(frame, heads, units, config.embedding_rank)


def with_dropout(
    model: RositaForSequenceClassification, rate: float
) -> RositaForSequenceClassification:
    """`model` with every dropout rate at `rate`, in its mode; weights are shared, not copied."""
    config = type(model.config).from_dict(model.config.to_dict())
    config.hidden_dropout_prob = rate
    config.attention_probs_dropout_prob = rate
    config.classifier_dropout = rate
    return build(config, model.state_dict()).train(model.training)


def build(config: RositaConfig, state: dict[str, torch.Tensor]) -> RositaForSequenceClassification:
    """A model of `config` that holds the tensors of `state` themselves (nothing is copied).

    It is in train mode and all its parameters take gradients.

    Raises:
        RuntimeError: where a name or a shape of `state` does not fit `config`.
    """
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

    with torch.device("meta"):
        model = RositaForSequenceClassification(config)
    model.load_state_dict(state, strict=True, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def placed(model: RositaForSequenceClassification, device: str) -> RositaForSequenceClassification:
    """`model` on `device`, in its mode; weights that are there already are shared, not copied."""
    state = {name: tensor.to(device) for name, tensor in model.state_dict().items()}
    return build(model.config, state).train(model.training)


def copied(model: RositaForSequenceClassification, device: str) -> RositaForSequenceClassification:
    """`model` with weights of its own on `device`, in its mode."""
    state = {name: tensor.to(device, copy=True) for name, tensor in model.state_dict().items()}
    return build(copy.deepcopy(model.config), state).train(model.training)


def fresh(config: RositaConfig, seed: int) -> RositaForSequenceClassification:
    """A model of `config` with random weights drawn from `seed`, in eval mode."""
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        # The CPU's alone: `torch.manual_seed` is for those of all devices.
        torch.default_generator.manual_seed(seed)
        return RositaForSequenceClassification(config).eval()


def save(model: RositaForSequenceClassification, folder: Path) -> None:
    """Write config.json and model.safetensors into `folder`."""
    # Auto classes of this process then load what is written.
    import rosita_core.model.register  # noqa: F401

    model.save_pretrained(folder)


def load(folder: str | Path) -> RositaForSequenceClassification:
    """Read what `save` wrote, in float32 and eval mode.

    Raises:
        RuntimeError: where a tensor is missing or has another shape than the configuration says.
    """
    from rosita_core.model.modeling_rosita import RositaConfig

    state = load_file(Path(folder) / "model.safetensors")
    # Copies: what safetensors hands out is the file itself, mapped into memory.
    own = {name: tensor.to(torch.float32, copy=True) for name, tensor in state.items()}
    return build(RositaConfig.from_pretrained(folder), own).eval()
