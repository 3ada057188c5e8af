"""The method: which stages a recipe has, what each learns from, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.recipes.request import Request
from flows.recipes.settings import (
    assess_settings,
    augment_settings,
    data_settings,
    depth_settings,
    export_settings,
    one_step_settings,
    student_settings,
    teacher_settings,
    width_settings,
)


@dataclass(frozen=True)
class Node:
    """One stage of a recipe's DAG.

    Attributes:
        name: of the stage.
        config: the kernel's settings.
        inputs: role -> name of the node whose artifact it is.
    """

    name: str
    config: Any
    inputs: dict[str, str]


def method(request: Request) -> tuple[Node, ...]:
    """The stages of the recipe, each after everything that it reads."""
    recipe = request.recipe
    data = Node("data", data_settings(request), {})
    teacher = Node("teacher", teacher_settings(request), {"data": "data"})
    augment = Node("augment", augment_settings(request), {"data": "data"})
    rows = {"data": "data", "rows": "augment"}
    student = Node("student", student_settings(request), rows | {"teacher": "teacher"})
    depth = Node("depth", depth_settings(request), rows | {"teacher": "student"})
    compression: tuple[Node, ...]
    match recipe.kd_setting:
        case "none":
            cut = {"data": "data", "rows": "data", "source": "teacher", "teacher": "teacher"}
            ranks = cut | {"ranking_teacher": "teacher"}
            compression = (Node("one-step", one_step_settings(request, "labels"), ranks),)
        case "1":
            cut = rows | {"source": "teacher", "teacher": "teacher"}
            ranks = cut | {"ranking_teacher": "teacher"}
            one_step = Node("one-step", one_step_settings(request, "labels"), ranks)
            compression = (augment, one_step)
        case "2":
            cut = rows | {"source": "student", "teacher": "student"}
            ranks = cut | {"ranking_teacher": "teacher"}
            one_step = Node("one-step", one_step_settings(request, "distillation"), ranks)
            compression = (augment, student, one_step)
        case "3":
            width = Node("width", width_settings(request, True), rows | {"teacher": "student"})
            compression = (augment, student, width)
        case _:
            width = Node("width", width_settings(request, False), rows | {"teacher": "depth"})
            compression = (augment, student, depth, width)
    models = {"data": "data", "teacher": "teacher", "student": compression[-1].name}
    assess = Node("assess", assess_settings(request), models)
    export = Node("export", export_settings(request), models | {"assess": "assess"})
    return (data, teacher, *compression, assess, export)


def check_stage(request: Request, stage: str) -> None:
    """Whether the recipe has such a stage.

    Raises:
        ValueError: naming those that it has.
    """
    names = [node.name for node in method(request)]
    if stage not in names:
        setting = request.recipe.kd_setting
        raise ValueError(
            f"stage must be one of {', '.join(names)} in KD setting {setting}, got {stage!r}"
        )
