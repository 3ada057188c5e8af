"""Files of a grid and its cells, below `<home>/grids/<grid>/`.

`definition.json` is the grid that ran last, `<cell>.json` a cell that finished or failed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.engine.pages import pages
from flows.grids.definition import Cell, Grid, cells_of, grid_of
from flows.recipes.schema import Gate, Recipe, validated
from tasks.home import Home
from tasks.host.redaction import redacted, tracking_uri
from tasks.store.json_files import read_file, read_json, write_json

logger = logging.getLogger(__name__)

DEFINITION = "definition.json"
CELL = {"cell": str, "seed": int, "status": str, "recipe": dict}
"""What is in every cell's file."""


def cell_path(home: Path, grid: str, cell: str) -> Path:
    """The file of a cell that finished or failed."""
    return Home(home).grid(grid) / f"{cell}.json"


def read_cell(home: Path, grid: str, cell: str) -> dict[str, Any] | None:
    """What is remembered of a cell, or None; a file of something else is named and left out."""
    path = cell_path(home, grid, cell)
    document = _read(path)
    if document is None or all(isinstance(document.get(n), kind) for n, kind in CELL.items()):
        return document
    logger.warning("%s is of no cell and is left out", path)
    return None


def write_definition(home: Path, grid: Grid) -> None:
    """Remember what the grid asks."""
    path = Home(home).grid(grid.name) / DEFINITION
    # Ids of cells follow the order of the axes, and a report that of the labels.
    write_json(path, grid.model_dump(mode="json"), sort=False)


def read_definition(home: Path, grid: str) -> Grid:
    """The grid that ran last under this name.

    Raises:
        ValueError: where none has.
    """
    document = _read(Home(home).grid(grid) / DEFINITION)
    if document is None:
        definitions = Home(home).grids.glob(f"*/{DEFINITION}")
        known = sorted(path.parent.name for path in definitions)
        raise ValueError(
            f"grid must be one that has run in {home} ({', '.join(known) or 'none has'}), "
            f"got {grid!r}"
        )
    try:
        return grid_of(document)
    except ValueError as error:
        path = Home(home).grid(grid) / DEFINITION
        raise ValueError(f"grid must have a {DEFINITION} of a grid, got {path}: {error}") from None


def grid_pages(home: Path, name: str) -> dict[str, str]:
    """Pages of the run of a grid that finished a cell last: title -> address, where one has it."""
    cells = [one for one in known_cells(home, read_definition(home, name)).values() if one]
    ran = [one for one in cells if one["status"] == "finished"]
    if not ran:
        return {}
    newest = max(ran, key=lambda one: str(one["finished"]))
    # The same id means nothing at another server.
    there = newest["mlflow_uri"] == redacted(tracking_uri(home))
    found = pages(home, newest["grid_run_id"] if there else None, newest["flow_run_id"])
    return {f"{name} at {server}": page for server, page in found.items()}


def known_cells(home: Path, grid: Grid) -> dict[Cell, dict[str, Any] | None]:
    """The cells of a grid with what is remembered of each, of its own seeds and of earlier ones.

    What is remembered of another recipe, from before the grid was changed, is left out.
    """
    found = {}
    for path in sorted(Home(home).grid(grid.name).glob("*.json")):
        if path.name == DEFINITION:
            continue
        if (document := read_cell(home, grid.name, path.stem)) is not None:
            found[document["cell"]] = document
    seeds = dict.fromkeys((*grid.seeds, *sorted(int(d["seed"]) for d in found.values())))
    cells: dict[Cell, dict[str, Any] | None] = {}
    for cell in cells_of(grid.model_copy(update={"seeds": tuple(seeds)})):
        document = found.get(cell.id)
        mine = document is not None and is_of(document, cell.recipe)
        if mine or cell.seed in grid.seeds:
            cells[cell] = document if mine else None
    return cells


def is_of(document: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether a cell's file is of this recipe."""
    # What changes no result may have another default by now.
    same: dict[str, Any] = {"problem": None, "gate": Gate().model_dump()}
    try:
        before = validated({**document["recipe"], **same})
        return before == recipe.model_copy(update={"problem": None, "gate": Gate()})
    except ValueError:
        # Of an earlier version, which had other fields.
        return False


def _read(path: Path) -> dict[str, Any] | None:
    """What a file remembers; one that cannot be read is named, and remembers nothing."""
    try:
        document = read_json(read_file(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        document = None
    if not isinstance(document, dict):
        logger.warning("%s cannot be read and is left out", path)
        return None
    return document
