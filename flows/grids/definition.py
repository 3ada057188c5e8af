"""A grid: a base recipe and named axes, whose product with the seeds gives the cells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from flows.recipes.changes import applied, dotted
from flows.recipes.schema import MOST_LETTERS, Recipe, Section, validated
from flows.recipes.shipped import load_recipe
from flows.recipes.sizes import shapes
from flows.recipes.validation_errors import first_complaint
from rosita_core.data.task_spec import FILM_REVIEWS, GLUE
from rosita_core.model.shape import count_parameters

MOST_CELLS = 10_000
# They become file names, columns and MLflow's params.
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
Changes = dict[str, Any]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Grid(Section):
    """Many recipes that differ in named ways."""

    name: str = Field(
        max_length=MOST_LETTERS, description="what the grid is called; a folder's name"
    )
    base: str = Field(description="a shipped recipe or a recipe file")
    description: str = Field("", description="what the grid asks")
    set: Changes = Field({}, description="dotted field -> value, for all cells")
    axes: dict[str, dict[str, Changes]] = Field(
        {},
        description="axis -> label -> changes; or a list of values of the field that names it",
    )
    seeds: tuple[Seed, ...] = (42, 43, 44)
    budget: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="allowed relative spread of the students' parameters over the cells",
    )
    exclude: tuple[dict[str, str], ...] = Field(
        (), description="axis -> label; cells with all of them are left out"
    )

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, value: str) -> str:
        if not re.fullmatch(NAME, value):
            raise ValueError(f"name must be letters, digits, '_', '.' and '-', got {value!r}")
        return value

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value:
            raise ValueError("seeds must hold at least 1, got none")
        if len(set(value)) < len(value):
            raise ValueError(f"seeds must differ, got {', '.join(map(str, value))}")
        return value

    @field_validator("axes", mode="before")
    @classmethod
    def _axes_are_mappings(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError(f"axes must be a mapping of names, got {type(value).__name__}")
        return {axis: _labelled(str(axis), values) for axis, values in value.items()}

    @field_validator("exclude")
    @classmethod
    def _exclude_says_what(cls, value: tuple[dict[str, str], ...]) -> tuple[dict[str, str], ...]:
        if any(not entry for entry in value):
            raise ValueError("exclude must name an axis and a label in every entry, got {}")
        return value


@dataclass(frozen=True, eq=False)
class Cell:
    """One recipe of a grid.

    Attributes:
        id: unique in the grid, such as `4-constant-s42`.
        labels: axis -> label.
        seed: of the recipe.
        recipe: complete; its name is `<grid>/<label>-<label>`.
    """

    id: str
    labels: dict[str, str]
    seed: int
    recipe: Recipe


def grid_of(values: dict[str, Any]) -> Grid:
    """The grid of nested values.

    Raises:
        ValueError: one line naming the field, the bound and the value.
    """
    try:
        return Grid.model_validate(values)
    except ValidationError as error:
        raise ValueError(first_complaint(error, Grid)) from None


def base_recipe(grid: Grid) -> Recipe:
    """The recipe that the cells start from, with `set` applied.

    Raises:
        ValueError: one line naming what is wrong.
    """
    for field in ("seed", "name"):
        if field in grid.set:
            raise ValueError(f"set must leave {field} to the grid, got {grid.set[field]!r}")
    for axis, labels in grid.axes.items():
        for field in grid.set:
            if all(field in changes for changes in labels.values()):
                raise ValueError(
                    f"set must leave {field} to the axis {axis}, which sets it in every cell, "
                    f"got {grid.set[field]!r}"
                )
    return changed(load_recipe(grid.base, ()), grid.set)


def cells_of(grid: Grid) -> tuple[Cell, ...]:
    """The cells, all of one seed before the next seed.

    Raises:
        ValueError: one line naming the cell and what is wrong with it, or with the grid.
    """
    base = base_recipe(grid)
    _check_exclude(grid)
    count = prod(map(len, (grid.seeds, *grid.axes.values())))
    if count > MOST_CELLS:
        raise ValueError(
            f"axes and seeds must give at most {MOST_CELLS:,} cells, got {count:,} of grid "
            f"{grid.name}"
        )
    cells: dict[str, Cell] = {}
    for seed in grid.seeds:
        for labels in product(*grid.axes.values()):
            named = dict(zip(grid.axes, labels, strict=True))
            if any(entry.items() <= named.items() for entry in grid.exclude):
                continue
            cell = _cell(grid, base, named, seed)
            if cell.id in cells:
                raise ValueError(f"axes must give every cell its own id, got two {cell.id}")
            cells[cell.id] = cell
    if not cells:
        raise ValueError(f"exclude must leave at least 1 cell, got 0 of grid {grid.name}")
    # Else their scores could not be compared.
    for field, found in (
        ("task", {cell.recipe.task for cell in cells.values()}),
        ("data.kind", {cell.recipe.data.kind for cell in cells.values()}),
        ("data.score", {cell.recipe.data.score for cell in cells.values()}),
    ):
        if len(found) > 1:
            several = ", ".join(sorted(found))
            raise ValueError(f"{field} must be the same in all cells of a grid, got {several}")
    if grid.budget is not None:
        _check_budget(grid.budget, tuple(cells.values()))
    return tuple(cells.values())


def student_parameters(cell: Cell) -> int:
    """Exact parameters of the cell's student; a task of one's own is counted with two classes.

    Raises:
        ValueError: naming the cell, where its target does not fit its teacher, or the size of its
            student is known after its cut.
    """
    spec = FILM_REVIEWS if cell.recipe.task == "film-reviews" else GLUE.get(cell.recipe.task)
    outputs = 2 if spec is None else spec.outputs
    try:
        student = shapes(cell.recipe, outputs)[1]
    except ValueError as error:
        raise ValueError(f"cell {cell.id}: {error}") from None
    if student is None:
        raise ValueError(
            f"budget must be left out of a grid of several methods, whose cells say "
            f"compress.budget, got a cell {cell.id} of method {cell.recipe.method}"
        )
    return count_parameters(student).total


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A recipe with other values in some of its dotted fields.

    Raises:
        ValueError: one line naming the field, the bound and the value.
    """
    return validated(applied(recipe.model_dump(mode="json"), changes))


def _cell(grid: Grid, base: Recipe, labels: dict[str, str], seed: int) -> Cell:
    what = "-".join(labels.values()) or "base"
    changes: Changes = {
        "name": f"{grid.name}/{what}",
        "problem": base.of_problem,
        "seed": seed,
    }
    taken: dict[str, str] = {}
    for axis, label in labels.items():
        for field, value in grid.axes[axis][label].items():
            if field in taken and changes[field] != value:
                raise ValueError(
                    f"cell {what}-s{seed}: {field} must be set by one axis, "
                    f"got two values from {taken[field]} and {axis}"
                )
            taken[field] = axis
            changes[field] = value
    try:
        return Cell(f"{what}-s{seed}", labels, seed, changed(base, changes))
    except ValueError as error:
        raise ValueError(f"cell {what}-s{seed}: {error}") from None


def _labelled(axis: str, values: Any) -> dict[str, Changes]:
    """Label -> changes, from that or from a list of values."""
    if not re.fullmatch(NAME, axis):
        raise ValueError(f"axes must be named by letters, digits, '_', '.' and '-', got {axis!r}")
    found: dict[str, Changes] = {}
    if isinstance(values, Mapping):
        entries = list(values.items())
        for label, changes in entries:
            if not isinstance(changes, Mapping):
                raise ValueError(
                    f"axes.{axis}.{label} must be a mapping of fields, got {changes!r}"
                )
        labelled = [(label, dotted(changes)) for label, changes in entries]
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            if value in values[:number]:
                raise ValueError(f"axes.{axis} must have values that differ, got {value!r} twice")
        labelled = [(value, {axis: value}) for value in values]
    else:
        raise ValueError(f"axes.{axis} must be a list of values or a mapping, got {values!r}")
    if not labelled:
        raise ValueError(f"axes.{axis} must have at least 1 value, got none")
    for value, changes in labelled:
        if (label := _label(axis, value)) in found:
            raise ValueError(f"axes.{axis} must have values that differ, got {label} twice")
        found[label] = changes
    if any(field in changes for changes in found.values() for field in ("seed", "name")):
        raise ValueError(f"axes.{axis} must leave seed and name to the grid; see seeds")
    return found


def _label(axis: str, value: Any) -> str:
    text = str(value).lower() if value is None or isinstance(value, bool) else str(value)
    if not re.fullmatch(NAME, text):
        raise ValueError(
            f"axes.{axis} must have labels of letters, digits, '_', '.' and '-', got {text!r}; "
            "write it as label: {field: value}"
        )
    return text


def _check_exclude(grid: Grid) -> None:
    for entry in grid.exclude:
        for axis, label in entry.items():
            if axis not in grid.axes:
                known = ", ".join(grid.axes) or "none"
                raise ValueError(f"exclude must name one of the axes {known}, got {axis!r}")
            if label not in grid.axes[axis]:
                known = ", ".join(grid.axes[axis])
                raise ValueError(f"exclude.{axis} must be one of {known}, got {label!r}")


def _check_budget(budget: float, cells: tuple[Cell, ...]) -> None:
    counts = {cell.id: student_parameters(cell) for cell in cells}
    least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    spread = counts[most] / counts[least] - 1
    if spread > budget:
        raise ValueError(
            f"budget must cover the spread of the students' parameters, {budget:g} allows less "
            f"than {spread:.4f}: {least} has {counts[least]:,} and {most} has {counts[most]:,}"
        )
