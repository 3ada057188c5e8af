"""Which pretrained model a stage starts from, and how it is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import BertConfig

from rosita_core.model.checkpoint import config_of, fresh, load_pretrained
from rosita_core.model.locate import MODELS, RANDOM_MODELS
from rosita_core.model.modeling_rosita import RositaForSequenceClassification

NOT_IN_KEY = {"in_key": False}


@dataclass(frozen=True)
class Pretrained:
    """A pretrained model with a classifier for a task.

    Attributes:
        digest: of its configuration and weights.
        outputs: C, classes or 1 for regression.
        problem_type: "single_label_classification" or "regression".
        seed: of weights that the checkpoint does not have.
        name: what the recipe calls it.
        path: the directory of the checkpoint.
    """

    digest: str
    outputs: int
    problem_type: str
    seed: int
    name: str = field(metadata=NOT_IN_KEY)
    path: str = field(metadata=NOT_IN_KEY)


def load(pretrained: Pretrained) -> RositaForSequenceClassification:
    """The model, in eval mode."""
    if pretrained.name in RANDOM_MODELS:
        bert = BertConfig.from_dict(dict(MODELS[pretrained.name].config or {}))
        config = config_of(bert, pretrained.outputs, pretrained.problem_type)
        return fresh(config, pretrained.seed).eval()
    model = load_pretrained(
        pretrained.path, pretrained.outputs, pretrained.problem_type, pretrained.seed
    )
    return model.eval()
