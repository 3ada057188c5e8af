"""What a recipe's method is made of, and what it leaves."""

from __future__ import annotations

from flows.recipes.presets import DEFAULT_SHARE, METHODS, ROSITA, Parts
from flows.recipes.schema import Recipe


def parts_of(recipe: Recipe) -> Parts:
    """What the recipe's method is made of, with what the recipe says otherwise."""
    preset, compress = METHODS[recipe.method], recipe.compress
    return Parts(
        rank=preset.rank if compress.rank is None else compress.rank,
        allocate=preset.allocate if compress.allocate is None else compress.allocate,
        rearrange=preset.rearrange if compress.rearrange is None else compress.rearrange,
        repair=preset.repair if compress.repair is None else compress.repair,
    )


def augments(recipe: Recipe) -> bool:
    """Whether a stage learns from variants of the rows."""
    if recipe.method == ROSITA:
        return recipe.kd_setting != "none"
    return recipe.compress.recover == "kd"


def goal(recipe: Recipe) -> str:
    """What a method leaves of its teacher, in words; its shape is known after its cut."""
    budget = recipe.compress.budget
    counted = {
        "params": "the parameters",
        "encoder": "the encoder's parameters",
        "macs": "the encoder's multiply-adds",
    }[budget.count]
    if budget.at_most is not None:
        return f"at most {budget.at_most:,} of {counted} by {recipe.method}"
    share = DEFAULT_SHARE if budget.share is None else budget.share
    return f"{share:g} of {counted} by {recipe.method}"


def run_name(recipe: Recipe) -> str:
    """What a run is called unless somebody names it: its recipe, method and seed."""
    how = f"kd-{recipe.kd_setting}" if recipe.method == ROSITA else recipe.method
    said = recipe.name if recipe.name.endswith(how) else f"{recipe.name}-{how}"
    return f"{said}-s{recipe.seed}"
