"""Which pretrained model a stage starts from, and how it is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rosita_core.model.checkpoint import build, fresh
from rosita_core.model.families import Family, family_of
from rosita_core.model.labels import class_names
from rosita_core.model.locate import RANDOM_MODELS, config_of, read_config
from rosita_core.model.unchanged import check_weights_unchanged
from rosita_core.model.weights import check_weights, read_weights

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification

NOT_IN_KEY = {"in_key": False}


@dataclass(frozen=True)
class Pretrained:
    """A pretrained model with a classifier for a task.

    Attributes:
        family: what reads its checkpoint.
        digest: of its configuration and weights.
        outputs: C, classes or 1 for regression.
        order: the checkpoint's outputs in the order of the task's classes.
        seed: of weights that the checkpoint does not have.
        name: what the recipe calls it.
        path: the directory of the checkpoint.
    """

    family: Family
    digest: str
    outputs: int
    order: tuple[int, ...]
    seed: int
    name: str = field(metadata=NOT_IN_KEY)
    path: str = field(metadata=NOT_IN_KEY)


def load(pretrained: Pretrained) -> RositaForSequenceClassification:
    """The model, in eval mode.

    Raises:
        ValueError: see `load_pretrained`; where the checkpoint has changed since its digest.
    """
    outputs, seed = pretrained.outputs, pretrained.seed
    if pretrained.name in RANDOM_MODELS:
        named = read_config(pretrained.name)
        return fresh(pretrained.family.config(named, outputs), seed)
    model = load_pretrained(Path(pretrained.path), outputs, seed)
    check_weights_unchanged(Path(pretrained.path), pretrained.digest)
    return _in_order(model, pretrained.order)


def has_classifier(pretrained: Pretrained) -> bool:
    """Whether the checkpoint has a classifier of so many outputs, and `load` draws none.

    Raises:
        ValueError: see `load_pretrained`.
    """
    if pretrained.name in RANDOM_MODELS:
        return False
    folder = Path(pretrained.path)
    weights = check_weights(folder, config_of(folder), pretrained.outputs)
    return weights.outputs == pretrained.outputs


def load_pretrained(folder: Path, outputs: int, seed: int) -> RositaForSequenceClassification:
    """A checkpoint of any family with a classifier of `outputs` outputs, in eval mode.

    The classifier is kept where the checkpoint has one of the same size and drawn from `seed`
    otherwise; so is the missing pooler of an encoder.

    Args:
        folder: the checkpoint; weights come from safetensors only.
        outputs: C.
        seed: of fresh weights.

    Raises:
        ValueError: see `config_of` and `check_weights`.
    """
    values = config_of(folder)
    weights = check_weights(folder, values, outputs)
    config = family_of(values, str(folder)).config(values, outputs)
    if weights.outputs == outputs:
        _name(config, class_names(values, str(folder)))
    state = read_weights(weights)
    if weights.fresh:
        state = fresh(config, seed).state_dict() | state
    return build(config, state).eval()


def _in_order(
    model: RositaForSequenceClassification, order: tuple[int, ...]
) -> RositaForSequenceClassification:
    """`model` with its outputs in another order, names and all."""
    state, names = model.state_dict(), list((model.config.id2label or {}).values())
    for part in ("classifier.weight", "classifier.bias"):
        state[part] = state[part][list(order)]
    config = type(model.config).from_dict(model.config.to_dict())
    _name(config, tuple(names[output] for output in order))
    return build(config, state).eval()


def _name(config: RositaConfig, names: tuple[str, ...]) -> None:
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
