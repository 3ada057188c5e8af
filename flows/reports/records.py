"""The records of finished grids as a report needs them: checked, and named for people.

A configuration is a cell without its seed; cells of one configuration are told by their seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from flows.grids.records import GridRecords
from flows.recipes.presets import ROSITA

COLUMNS = {
    "cells": (
        *("cell", "grid", "seed", "kd_setting", "task", "shape", "params", "macs"),
        *("score", "score_name", "teacher_score", "teacher_params", "retention", "compression"),
    ),
    "stages": ("cell", "stage", "key", "seconds"),
    "curves": ("key", "stage", "step", "name", "value"),
    "predictions": ("cell", "split", "row", "label", "prediction"),
    "prunes": ("key", "stage", "record"),
}
RECORDED_BY = {"curves": ["key"], "prunes": ["key"], "predictions": ["cell", "split"]}
"""What tells the records of one stage or cell from others."""
AXIS = "axis."
KD_TITLES = {"none": "no distillation"} | {n: f"setting {n}" for n in "1234"}
SHORT_AXES = {
    "width.prune_fraction": "width p",
    "depth.prune_fraction": "depth p",
    "width.schedule": "schedule",
    "width.prune_steps": "width prunes",
}


@dataclass(frozen=True)
class Records:
    """Finished cells and what led to them.

    Attributes:
        name: of the grid, or of the grids.
        documents: grid.json of each grid.
        cells: a row per finished cell, with `configuration` (its name for people), `family` (grid
            and task: what may be compared), `taught_by` (its teacher among the predictions) and
            `teachers` (a number: configurations of a family that learn from the same teachers,
            which read as many tokens, have one).
        stages, curves, predictions, prunes: as the grid recorded them.
        axes: the axes of the cells, in order.
        kd_axis: the one whose values are the KD settings; None where there is none, or where there
            are other methods, of which a setting says nothing.
        missing: cells that are not finished -> why.
    """

    name: str
    documents: tuple[dict[str, Any], ...]
    cells: pd.DataFrame
    stages: pd.DataFrame
    curves: pd.DataFrame
    predictions: pd.DataFrame
    prunes: pd.DataFrame
    axes: tuple[str, ...]
    kd_axis: str | None
    missing: dict[str, str]

    @property
    def configurations(self) -> tuple[str, ...]:
        """In the order of the grid."""
        return tuple(dict.fromkeys(self.cells["configuration"]))

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.cells["family"]))

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.cells["task"]))

    def of(self, configuration: str, family: str) -> pd.DataFrame:
        """The cells of one configuration, in order of their seeds."""
        cells = self.cells
        chosen = cells[(cells["configuration"] == configuration) & (cells["family"] == family)]
        return chosen.sort_values("seed")

    def keys(self, cells: Sequence[str], stage: str) -> list[str]:
        """The distinct keys of a stage among some cells."""
        chosen = self.stages[self.stages["cell"].isin(cells) & (self.stages["stage"] == stage)]
        return list(dict.fromkeys(chosen["key"]))


def report_records(parts: Sequence[GridRecords]) -> Records:
    """The records of some grids, as a report needs them.

    Raises:
        ValueError: one line, where a column is missing, a cell is there twice, or none is.
    """
    frames = {}
    for name, columns in COLUMNS.items():
        tables: list[pd.DataFrame] = [getattr(part, name) for part in parts]
        for table in tables:
            absent = [column for column in columns if column not in table]
            if absent:
                raise ValueError(
                    f"{name} of the records must have a column {absent[0]}, "
                    f"got {', '.join(map(str, table.columns)) or 'none'}"
                )
        frames[name] = _of_the_first(tables, RECORDED_BY.get(name, ()))
    cells = frames["cells"]
    if cells.empty:
        raise ValueError("records must hold at least one finished cell, got none")
    if cells["cell"].duplicated().any():
        twice = cells.loc[cells["cell"].duplicated(), "cell"].iloc[0]
        raise ValueError(f"each cell must be there once, got {twice} twice")
    axes = tuple(c.removeprefix(AXIS) for c in cells.columns if c.startswith(AXIS))
    methods = _methods_of(parts)
    of_rosita = all(methods[cell] == ROSITA for cell in cells["cell"])
    kd = _kd_axis(cells, axes) if of_rosita else None
    cells = cells.assign(
        configuration=_configurations(cells, axes, kd, methods),
        family=cells["grid"] + " on " + cells["task"],
    )
    cells = cells.assign(taught_by=_taught_by(cells, frames["stages"]))
    cells = cells.assign(teachers=_teachers(cells))
    return Records(
        name=", ".join(dict.fromkeys(cells["grid"])),
        documents=tuple(part.grid for part in parts),
        cells=cells,
        stages=frames["stages"],
        curves=frames["curves"],
        predictions=frames["predictions"],
        prunes=frames["prunes"],
        axes=axes,
        kd_axis=kd,
        missing={n: why for part in parts for n, why in sorted(part.grid["missing"].items())},
    )


def _kd_axis(cells: pd.DataFrame, axes: Sequence[str]) -> str | None:
    """The axis whose values are the KD settings, by whatever name."""
    for axis in axes:
        pairs = cells[[AXIS + axis, "kd_setting"]].drop_duplicates()
        if len(pairs) > 1 and not pairs[AXIS + axis].duplicated().any():
            if pairs["kd_setting"].duplicated().any():
                continue
            return axis
    return None


def _taught_by(cells: pd.DataFrame, stages: pd.DataFrame) -> pd.Series:
    """The name of each cell's teacher among the predictions; "" where there is none."""
    trained = stages[stages["stage"] == "teacher"].drop_duplicates("cell")
    # Earlier records know a teacher by its key alone.
    named = "teacher:" + cells["cell"].map(trained.set_index("cell")["key"])
    known = cells["taught_by"].fillna(named) if "taught_by" in cells else named
    return known.fillna("")


def _teachers(cells: pd.DataFrame) -> pd.Series:
    """A number per cell; configurations of a family that share the teacher of a seed have one."""
    names, number = cells["taught_by"], dict[tuple[str, str], int]()
    for (family, _), own in names.groupby([cells["family"], cells["configuration"]], sort=False):
        mine = [(str(family), key) for key in own]
        shared = {number[one] for one in mine if one in number}
        chosen = min(shared, default=len(number))
        number |= dict.fromkeys(mine, chosen)
        number = {one: chosen if n in shared else n for one, n in number.items()}
    found = [number[one] for one in zip(cells["family"], names, strict=True)]
    return pd.Series(found, cells.index)


def _of_the_first(tables: Sequence[pd.DataFrame], by: Sequence[str]) -> pd.DataFrame:
    """The rows of all grids; what several have recorded, as the first has it.

    Grids that share a stage have each recorded its curve, its prunes and its predictions, which
    differ in their last bits where the machines did.
    """
    frame = pd.concat([table.assign(part=n) for n, table in enumerate(tables)], ignore_index=True)
    if by:
        frame = frame[frame["part"] == frame.groupby([*by], observed=True)["part"].transform("min")]
    return frame.drop(columns="part").reset_index(drop=True)


def _methods_of(parts: Sequence[GridRecords]) -> dict[str, str]:
    """Cell -> its method; records from before there were methods have none."""
    recipes = [one for part in parts for one in part.grid["recipes"].items()]
    return {cell: str(recipe.get("method", ROSITA)) for cell, recipe in recipes}


def _configurations(
    cells: pd.DataFrame, axes: Sequence[str], kd: str | None, methods: Mapping[str, str]
) -> list[str]:
    """A name for people, such as "setting 4, constant"; unique by what the cells differ in."""
    shapes = cells.groupby(["grid", "task"])["shape"].transform("nunique")
    names = []
    for (_, cell), count in zip(cells.iterrows(), shapes, strict=True):
        parts = []
        for axis in axes:
            value = cell[AXIS + axis]
            if axis == kd:
                parts.append(KD_TITLES.get(str(cell["kd_setting"]), str(value)))
            elif pd.notna(value):
                parts.append(_axis_text(axis, value))
        if not parts:
            # A grid of seeds alone has no axis. What a method keeps may differ by seed.
            method = methods[cell["cell"]]
            parts.append(KD_TITLES[cell["kd_setting"]] if method == ROSITA else method)
            if count == 1:
                parts.append(cell["shape"])
        names.append(", ".join(parts))
    return names


def _axis_text(axis: str, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if axis in SHORT_AXES:
        return f"{SHORT_AXES[axis]} {text}"
    # A value of a dotted field says little alone; a label was chosen by a person.
    return f"{axis} {text}" if "." in axis else text
