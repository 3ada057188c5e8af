"""Which cells of a grid a person means."""

from __future__ import annotations

from flows.grids.definition import Cell, Grid, cells_of


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
        if not any(word in names(cell) for cell in cells):
            labels = ", ".join(
                f"{axis}={label}" for axis, found in grid.axes.items() for label in found
            )
            raise ValueError(
                f"only must be a cell of grid {grid.name} or one of {labels or 'none'}, "
                f"got {word!r}"
            )
    return tuple(cell for cell in cells if set(only) & names(cell))


def names(cell: Cell) -> set[str]:
    """Every word that means the cell."""
    pairs = {f"{axis}={label}" for axis, label in cell.labels.items()}
    return {cell.id, cell.id.removesuffix(f"-s{cell.seed}"), *cell.labels.values(), *pairs}
