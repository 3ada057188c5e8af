"""The sizes that a recipe leads to, from configurations alone: no weights, no torch."""

from __future__ import annotations

from flows.recipes.presets import ROSITA
from flows.recipes.schema import Recipe
from rosita_core.compression.budgets.budget import MACS, Limit
from rosita_core.compression.budgets.solver import Given, solved
from rosita_core.model.locate import read_config, shape_from
from rosita_core.model.shape import Shape, narrowed, shallower


def shapes(recipe: Recipe, outputs: int) -> tuple[Shape, Shape | None]:
    """Shapes of teacher and student; None where a method's cut decides.

    Raises:
        ValueError: where the target does not fit the teacher, or the budget.
    """
    try:
        teacher = shape_from(read_config(recipe.teacher.model), outputs)
    except ValueError as error:
        raise ValueError(f"teacher.{error}") from None
    return teacher, _student(recipe, teacher) if recipe.method == ROSITA else None


def given_sizes(recipe: Recipe) -> Given:
    """The sizes of ROSITA's student that the recipe says."""
    width = recipe.width
    return Given(recipe.depth.keep_layers, width.keep_heads, width.ffn_units, width.embedding_rank)


def limit_of(recipe: Recipe, share: float | None) -> Limit:
    """How large the compressed model may be; `share` where the recipe says nothing."""
    budget = recipe.compress.budget
    own = share if budget.share is None and budget.at_most is None else budget.share
    return Limit(budget.count, own, budget.at_most, budget.tokens)


def _student(recipe: Recipe, teacher: Shape) -> Shape:
    given, limit = given_sizes(recipe), limit_of(recipe, None)
    if limit.share is None and limit.at_most is None:
        for name, size in given.fields().items():
            if size is None:
                raise ValueError(f"{name} must be given, or compress.budget.share, got neither")
    elif limit.count == MACS and limit.tokens is None:
        # Its shape is known before any row is read.
        raise ValueError(
            "compress.budget.tokens must be given for method rosita with count macs, got none"
        )
    else:
        _check(given, teacher)
        return solved(teacher, given, limit)
    return _check(given, teacher)


def _check(given: Given, teacher: Shape) -> Shape:
    """The shape of the given sizes, and of the teacher's where none is given."""
    layers = teacher.layers if given.layers is None else given.layers
    try:
        shallow = shallower(teacher, layers)
    except ValueError as error:
        raise ValueError(f"depth.{error}") from None
    try:
        return narrowed(
            shallow,
            min(shallow.layer_heads) if given.heads is None else given.heads,
            min(shallow.layer_ffn_units) if given.units is None else given.units,
            shallow.rank if given.rank is None else given.rank,
        )
    except ValueError as error:
        raise ValueError(f"width.{error}") from None
