"""The shipped recipes with exact sizes, from configurations and without weights."""

from __future__ import annotations

from typing import Any

from flows.recipes.schema import Recipe
from flows.recipes.shipped import RECIPES
from flows.recipes.sizes import shapes
from rosita_core.data.task_spec import GLUE
from rosita_core.model.shape import Shape, count_macs, count_parameters


def catalogue() -> list[dict[str, Any]]:
    """One entry per recipe; own data is counted with two classes."""
    return [_entry(make(), make) for make in RECIPES.values()]


def _entry(recipe: Recipe, make: Any) -> dict[str, Any]:
    spec = GLUE.get(recipe.task)
    outputs = 2 if spec is None else spec.outputs
    teacher, student = shapes(recipe, outputs)
    assert student is not None, "recipes that ship say their student's size"
    tokens = recipe.assess.macs_tokens
    before, after = count_parameters(teacher).total, count_parameters(student).total
    return {
        "name": recipe.name,
        "task": recipe.task,
        "method": recipe.method,
        "kd_setting": recipe.kd_setting,
        "model": recipe.teacher.model,
        "description": _first_line(make),
        "teacher": _size(teacher, tokens),
        "student": _size(student, tokens),
        "compression": before / after,
    }


def _size(shape: Shape, tokens: int) -> dict[str, Any]:
    count = count_parameters(shape)
    return {
        "shape": str(shape),
        "params": count.total,
        "params_embedding": count.embedding,
        "params_encoder": count.encoder,
        "params_head": count.head,
        "macs": count_macs(shape, tokens),
    }


def _first_line(make: Any) -> str:
    function = getattr(make, "func", make)
    return str(function.__doc__).splitlines()[0]
