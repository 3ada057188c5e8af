"""From a grid's name, or a file, to the grid, and to those of its cells that a person means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.grids.definition import Cell, Grid, cells_of, changed, grid_of
from flows.grids.shipped import SMOKE_GRID, TEMPLATES
from flows.recipes.changes import Changes, dotted, fields_of
from flows.recipes.files import SUFFIXES, beside, read_document
from flows.recipes.shipped import RECIPES, load_recipe
from flows.recipes.validation_errors import check_writable
from tasks.host.wording import meant

SMOKE = str(SMOKE_GRID["name"])


def load_grid(
    source: str | Path | Mapping[str, Any],
    recipe: str | None,
    changes: Changes,
    seeds: Sequence[int] | None,
) -> Grid:
    """A complete grid, with some fields of all its cells changed.

    Args:
        source: `smoke-grid`; `<shipped grid>-<shipped recipe>`, such as kd-settings-minilm-sst2; a
            shipped grid whose recipe is `recipe`; a YAML, TOML or JSON file; or what such a file
            holds.
        recipe: a shipped recipe or a file, for a shipped grid.
        changes: `a.b=c` as texts, or dotted field -> value.
        seeds: instead of the grid's own.

    Raises:
        ValueError: one line naming what is wrong.
    """
    fields = fields_of(changes)
    template, own = (None, None) if isinstance(source, Mapping) else _split(str(source))
    if template is not None:
        values = _shipped(template, own, recipe, fields)
    else:
        if recipe is not None:
            raise ValueError(
                f"recipe must be left out for a grid that names its own, got {recipe!r} for "
                f"{source}"
            )
        values = _own(source)
        found = values.get("set", {})
        if not isinstance(found, dict):
            raise ValueError(f"set must be a mapping of fields, got {found!r}")
        values["set"] = {**dotted(found), **fields}
    if seeds is not None:
        values["seeds"] = seeds
    return grid_of(values)


def _own(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The values of a grid that names its own base."""
    if isinstance(source, Mapping):
        return dict(source)
    return dict(SMOKE_GRID) if str(source) == SMOKE else _from_file(Path(source))


def grid_entries() -> list[dict[str, Any]]:
    """The shipped grids: name, what it asks, and how to spell it."""
    entries = [
        {
            "name": name,
            "description": template.description,
            "usage": f"--grid {name} --recipe NAME_OR_FILE",
        }
        for name, template in TEMPLATES.items()
    ]
    description = str(SMOKE_GRID["description"])
    return [*entries, {"name": SMOKE, "description": description, "usage": f"--grid {SMOKE}"}]


def chosen_cells(grid: Grid, only: tuple[str, ...]) -> tuple[Cell, ...]:
    """The cells that one of the words in `only` means; all where there is none.

    A word is a cell's id, its id without the seed, a label, or `axis=label` where a label is on
    several axes.

    Raises:
        ValueError: for a word that means no cell.
    """
    cells = cells_of(grid)
    if not only:
        return cells
    for word in only:
        if not any(word in words_for(cell) for cell in cells):
            labels = ", ".join(
                f"{axis}={label}" for axis, found in grid.axes.items() for label in found
            )
            raise ValueError(
                f"only must be a cell of grid {grid.name} or one of {labels or 'none'}, "
                f"got {word!r}"
            )
    return tuple(cell for cell in cells if set(only) & words_for(cell))


def words_for(cell: Cell) -> set[str]:
    """Every word that means the cell."""
    pairs = {f"{axis}={label}" for axis, label in cell.labels.items()}
    return {cell.id, cell.id.removesuffix(f"-s{cell.seed}"), *cell.labels.values(), *pairs}


def _split(name: str) -> tuple[str | None, str | None]:
    """The shipped grid and the recipe in `name`; None where it has none."""
    if Path(name).suffix in SUFFIXES:
        return None, None
    if name in TEMPLATES:
        return name, None
    for template in TEMPLATES:
        if name.startswith(f"{template}-"):
            return template, name.removeprefix(f"{template}-")
    return None, None


def _shipped(
    template: str, own: str | None, recipe: str | None, fields: dict[str, Any]
) -> dict[str, Any]:
    if own is not None and recipe is not None and own != recipe:
        raise ValueError(f"recipe must be named once, got {own!r} in the grid and {recipe!r}")
    base = own or recipe
    if base is None:
        raise ValueError(
            f"recipe must be given for grid {template}, such as --recipe minilm-sst2 or "
            f"--recipe paper-sst2, got none"
        )
    if own is not None and own not in RECIPES:
        raise ValueError(f"recipe must be a shipped one in a grid's name, got {own!r}")
    start = changed(load_recipe(base, ()), fields)
    if start.kd_setting != "4":
        raise ValueError(
            f"kd_setting must be 4 in the recipe of grid {template}, got {start.kd_setting}"
        )
    parts = TEMPLATES[template].build(start, frozenset(fields))
    return {
        "name": f"{template}-{Path(base).stem if own is None else own}",
        "base": base if base in RECIPES else str(Path(base).resolve()),
        "description": TEMPLATES[template].description,
        **parts,
        "set": {**parts.get("set", {}), **fields},
    }


def _from_file(path: Path) -> dict[str, Any]:
    if path.suffix not in SUFFIXES:
        names = (*TEMPLATES, SMOKE)
        known = ", ".join(names)
        raise ValueError(
            f"grid must be one of {known}, or a YAML, TOML or JSON file, got {str(path)!r}"
            f"{meant(str(path), names)}"
        )
    values = read_document(path, "grid").values
    base = values.get("base")
    if isinstance(base, str) and base not in RECIPES:
        check_writable(base, "base")
        # A recipe beside the grid is found from anywhere.
        values["base"] = str((path.parent / base).resolve())
    if isinstance(values.get("set"), dict):
        values["set"] = beside(path.parent, values["set"])
    if isinstance(axes := values.get("axes"), dict):
        values["axes"] = {axis: _beside(path.parent, axis, found) for axis, found in axes.items()}
    return {"name": path.stem, **values}


def _beside(folder: Path, axis: str, found: Any) -> Any:
    """An axis of a file, whose relative paths are meant from the folder that it lies in."""
    if isinstance(found, dict):
        return {
            label: beside(folder, changes) if isinstance(changes, dict) else changes
            for label, changes in found.items()
        }
    if isinstance(found, list) and all(isinstance(value, str) for value in found):
        placed = {value: beside(folder, {axis: value}) for value in found}
        # Where there are no paths, a list stays one, and says of itself what is wrong with it.
        if any(changes[axis] != value for value, changes in placed.items()):
            return placed
    return found
