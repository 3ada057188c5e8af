"""The sizes that a recipe leads to, from configurations alone: no weights, no torch."""

from __future__ import annotations

from flows.recipes.schema import Recipe
from rosita_core.model.locate import read_config, shape_from
from rosita_core.model.shape import Shape, narrowed, shallower


def shapes(recipe: Recipe, outputs: int) -> tuple[Shape, Shape]:
    """Shapes of teacher and student.

    Raises:
        ValueError: where the target does not fit the teacher.
    """
    try:
        teacher = shape_from(read_config(recipe.teacher.model), outputs)
    except ValueError as error:
        raise ValueError(f"teacher.{error}") from None
    try:
        shallow = shallower(teacher, recipe.depth.keep_layers)
    except ValueError as error:
        raise ValueError(f"depth.{error}") from None
    width = recipe.width
    try:
        return teacher, narrowed(shallow, width.keep_heads, width.ffn_units, width.embedding_rank)
    except ValueError as error:
        raise ValueError(f"width.{error}") from None
