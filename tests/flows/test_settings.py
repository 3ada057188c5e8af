"""From a recipe's fields to the plug-ins of a kernel's settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.recipes.request import Found, Request
from flows.recipes.schema import Fidelity, Recipe, validated
from flows.recipes.settings import (
    assess_settings,
    data_settings,
    depth_settings,
    one_step_settings,
    student_settings,
    teacher_settings,
    width_settings,
)
from flows.recipes.shipped import load_recipe
from flows.recipes.sizes import shapes
from rosita_core.data.task_spec import FILM_REVIEWS, GLUE
from rosita_core.model.families import family_of
from rosita_core.model.locate import read_config
from rosita_core.plug_ins import load, names
from rosita_core.stages.one_step import OneStepSettings
from rosita_core.stages.width import WidthSettings


def request_of(recipe: Recipe) -> Request:
    """What the settings of later stages are made of; nothing is looked up."""
    spec = GLUE.get(recipe.task, FILM_REVIEWS)
    teacher, student = shapes(recipe, spec.outputs)
    source: Any = None
    name, found = recipe.teacher.model, Found(Path("model"), "0" * 64)
    family = family_of(read_config(name), name)
    return Request(
        *(recipe, Path("home"), spec, teacher, student),
        *(
            found,
            family,
            found,
            None,
            None,
            source,
            tuple(range(spec.outputs)),
            spec.labels,
            (),
        ),
    )


def smoke(*changes: str) -> Recipe:
    return load_recipe("smoke", changes)


def _width(request: Request) -> WidthSettings:
    return width_settings(request, False)


def _one_step(request: Request) -> OneStepSettings:
    return one_step_settings(request, "distillation")


WHILE_TRAINING = tuple(
    name
    for name in names("compression.criteria")
    if hasattr(load("compression.criteria", name), "accumulate")
)


@pytest.mark.parametrize("rank", WHILE_TRAINING)
def test_the_recipe_says_what_ranks(rank: str) -> None:
    recipe = smoke(f"compress.rank={rank}", "kd_setting=2")
    request = request_of(recipe)
    one_step = one_step_settings(request, "distillation")
    assert type(one_step.criterion).__name__.lower() == rank
    assert width_settings(request, True).criterion == one_step.criterion
    assert (one_step.ranking is not None) == one_step.criterion.needs_gradients
    assert one_step_settings(request, "labels").ranking is None
    if hasattr(one_step.criterion, "seed"):
        assert one_step.criterion.seed == recipe.seed


def test_what_ranks_is_taylor_unless_said_otherwise() -> None:
    assert smoke().compress.rank is None
    settings = width_settings(request_of(smoke()), False)
    assert type(settings.criterion).__name__ == "Taylor"
    with pytest.raises(ValueError, match=r"^compress\.rank must be [a-z, ]*taylor, got 'hope'$"):
        smoke("compress.rank=hope")


@pytest.mark.parametrize(
    ("written", "read"),
    [("true", "states"), ("false", "none"), ("none", "none"), ("null", "none"), ("states",) * 2],
)
def test_hidden_states_are_learned_by_name_or_by_yes_and_no(written: str, read: str) -> None:
    recipe = smoke(f"width.hidden={written}")
    assert recipe.width.hidden == read
    assert validated(recipe.model_dump(mode="json")) == recipe
    losses = width_settings(request_of(recipe), False).distillation.losses
    assert [type(loss).__name__ for loss in losses] == (
        ["Predictions"] if read == "none" else ["Predictions", "States"]
    )


@pytest.mark.parametrize("wrong", ["maybe", "predictions", "1.5"])
def test_other_words_for_hidden_states_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"depth\.hidden must be none or states, got"):
        smoke(f"depth.hidden={wrong}")


@pytest.mark.parametrize("task", [*GLUE, "film-reviews"])
def test_the_tasks_own_metric_decides(task: str) -> None:
    recipe = smoke() if task == "film-reviews" else load_recipe(f"minilm-{task}", ())
    scoring = assess_settings(request_of(recipe)).scoring
    spec = GLUE.get(task, FILM_REVIEWS)
    assert (scoring.score, scoring.metrics) == (spec.score, spec.metrics)
    assert scoring.score != "f1"


SWITCHES: dict[str, tuple[str, Callable[[Request], Any], str, Any, Any]] = {
    "teacher_dropout": ("4", student_settings, "distillation.teacher_dropout", False, True),
    "relu_teacher_head": ("4", student_settings, "distillation.relu_teacher_head", False, True),
    "hidden_on_padding": ("4", _width, "distillation.losses.1.on_padding", False, True),
    "average_over_classes": (
        *("4", _width, "distillation.losses.0.average_over_classes"),
        *(False, True),
    ),
    "bert_adam": ("4", teacher_settings, "training.bias_correction", True, False),
    "reset_optimizer": ("4", depth_settings, "reset_optimizer", False, True),
    "first_layer_ranks_heads": ("4", _width, "allocation.first_layer_ranks_heads", False, True),
    "bottom_layers": ("1", _one_step, "start_layers", (1, 3), (0, 1)),
    "update_while_ranking": ("2", _one_step, "update_while_ranking", False, True),
    "last_step_teacher": ("4", teacher_settings, "training.keep_best", True, False),
    "select_on_dev": ("4", data_settings, "select_on_dev", False, True),
    "drop_last_batch": ("4", depth_settings, "training.drop_last", False, True),
    "pad_to_max_length": ("4", student_settings, "training.pad_to_max_length", False, True),
}
"""Switch -> KD setting, settings of a kernel, where it is in them, and its value off and on."""


@pytest.mark.parametrize("switch", list(Fidelity.model_fields))
def test_every_fidelity_switch_reaches_its_kernel(switch: str) -> None:
    setting, of, place, off, on = SWITCHES[switch]
    for value, said in ((off, "false"), (on, "true")):
        recipe = smoke(f"kd_setting={setting}", f"fidelity.{switch}={said}")
        found: Any = of(request_of(recipe))
        for part in place.split("."):
            found = found[int(part)] if part.isdigit() else getattr(found, part)
        assert found == value


def test_the_authors_optimizer_also_clips_each_tensor_alone() -> None:
    clips = [
        teacher_settings(request_of(smoke(f"fidelity.bert_adam={said}"))).training.clip_per_tensor
        for said in ("false", "true")
    ]
    assert clips == [False, True]


@pytest.mark.parametrize(
    ("setting", "layers"), [("none", (0, 1)), ("1", (1, 3)), ("2", (1, 3)), ("3", (1, 3))]
)
def test_a_depth_cut_at_once_keeps_the_layers_that_are_imitated(
    setting: str, layers: tuple[int, ...]
) -> None:
    """Four to two: the bottom ones without distillation, else those whose outputs are mapped."""
    request = request_of(smoke(f"kd_setting={setting}"))
    if setting == "3":
        assert width_settings(request, True).start_layers == layers
    else:
        assert one_step_settings(request, "distillation").start_layers == layers


def test_a_fidelity_switch_reaches_its_plug_in() -> None:
    recipe = smoke(
        "fidelity.first_layer_ranks_heads=true",
        "fidelity.hidden_on_padding=true",
        "fidelity.average_over_classes=true",
        "fidelity.reset_optimizer=true",
        "width.temperature=2",
    )
    found = width_settings(request_of(recipe), False)
    assert found.reset_optimizer
    assert found.allocation.first_layer_ranks_heads  # type: ignore[attr-defined]
    predictions, states = found.distillation.losses
    assert predictions.temperature == 2  # type: ignore[attr-defined]
    assert predictions.average_over_classes  # type: ignore[attr-defined]
    assert states.on_padding  # type: ignore[attr-defined]
