"""Which pretrained model a stage starts from, and how it is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from rosita_core.model.checkpoint import fresh
from rosita_core.model.families import Family, family_of
from rosita_core.model.locate import MODELS, RANDOM_MODELS
from rosita_core.model.modeling_rosita import RositaForSequenceClassification

NOT_IN_KEY = {"in_key": False}


@dataclass(frozen=True)
class Pretrained:
    """A pretrained model with a classifier for a task.

    Attributes:
        family: what reads its checkpoint.
        digest: of its configuration and weights.
        outputs: C, classes or 1 for regression.
        problem_type: "single_label_classification" or "regression".
        seed: of weights that the checkpoint does not have.
        name: what the recipe calls it.
        path: the directory of the checkpoint.
    """

    family: Family
    digest: str
    outputs: int
    problem_type: str
    seed: int
    name: str = field(metadata=NOT_IN_KEY)
    path: str = field(metadata=NOT_IN_KEY)


def load(pretrained: Pretrained) -> RositaForSequenceClassification:
    """The model, in eval mode.

    Raises:
        ValueError: see `read_source_config`.
    """
    outputs, kind, seed = pretrained.outputs, pretrained.problem_type, pretrained.seed
    if pretrained.name in RANDOM_MODELS:
        named = MODELS[pretrained.name].config or {}
        return fresh(pretrained.family.config(named, outputs, kind), seed).eval()
    read_source_config(pretrained.path)
    return pretrained.family.load(pretrained.path, outputs, kind, seed).eval()


def load_pretrained(
    source: str, outputs: int, problem_type: str, seed: int
) -> RositaForSequenceClassification:
    """A checkpoint of any family with a classifier of `outputs` outputs, in eval mode.

    Args: see `Family.load`.

    Raises:
        ValueError: see `read_source_config`.
    """
    family = family_of(read_source_config(source), source)
    return family.load(source, outputs, problem_type, seed).eval()


def read_source_config(source: str) -> dict[str, Any]:
    """`config.json` of a checkpoint directory or, for a name that is no directory, of a hub model.

    Raises:
        ValueError: where the directory holds no checkpoint, its architecture is not supported, or
            its sizes are wrong.
    """
    folder = Path(source)
    if not folder.is_dir():
        config: dict[str, Any] = PretrainedConfig.get_config_dict(source)[0]
    else:
        path = folder / "config.json"
        if not path.is_file():
            raise ValueError(
                f"model must be a checkpoint directory with a config.json, got {source}"
            )
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"model: {path} must be JSON: {error}") from None
        if not list(folder.glob("*.safetensors")):
            raise ValueError(f"model must have weights in *.safetensors, found none in {source}")
    family_of(config, source).completed(config, source)
    return config
