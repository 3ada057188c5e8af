"""A kernel's settings go to another process and come back as they were; nothing else does."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from small_trainings import CHOICE, DISTILLATION, TRAINING

from rosita_core.measuring.score import Scoring
from rosita_core.stages.width import WidthSettings
from tasks.execution.config_json import decoded, encoded

WIDTH = WidthSettings(
    start_layers=(0, 1),
    keep_heads=2,
    ffn_units=5,
    embedding_rank=6,
    prune_steps=2,
    prune_fraction=0.1,
    criterion=CHOICE.criterion,
    allocation=CHOICE.allocation,
    reset_optimizer=False,
    training=replace(TRAINING, learning_rate=0.1 + 0.2, patience=float("inf")),
    distillation=DISTILLATION,
    scoring=Scoring(("accuracy",), "accuracy", False, 8, 16),
)


@dataclass(frozen=True)
class Foreign:
    """Not a class of rosita_core."""

    value: Any


def test_settings_with_plug_ins_come_back() -> None:
    back = decoded(json.loads(json.dumps(encoded(WIDTH))))
    assert back == WIDTH
    assert [type(loss) for loss in back.distillation.losses] == [
        type(loss) for loss in DISTILLATION.losses
    ]
    assert decoded(json.loads(json.dumps(encoded(None)))) is None


@pytest.mark.parametrize("value", [{"a": 1}, [1], {1}, b"x", object()])
def test_a_value_that_would_come_back_as_another_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="settings must be numbers, texts, tuples and dataclasses"):
        encoded((1, value))


def test_only_settings_of_the_core_are_made() -> None:
    with pytest.raises(ValueError, match="must be one of rosita_core, got one of"):
        encoded(Foreign(1))
    for module, name, said in (
        ("subprocess", "Popen", "must be one of rosita_core, got one of subprocess"),
        ("rosita_core_evil", "A", "must be one of rosita_core, got one of rosita_core_evil"),
        ("rosita_core.plug_ins", "load", "must be a dataclass, got rosita_core.plug_ins.load"),
        ("rosita_core.plug_ins", "Path", "must be a dataclass, got rosita_core.plug_ins.Path"),
    ):
        with pytest.raises(ValueError, match=said):
            decoded({"class": [module, name], "fields": {}})
