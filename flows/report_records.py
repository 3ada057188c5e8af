"""The records of finished grids as a report needs them: read, checked, and named for people.

A configuration is a cell without its seed; cells of one configuration are told by their seeds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

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
        cells: a row per finished cell, with `configuration` (its name for people) and `family`
            (grid and task: what may be compared).
        stages, curves, predictions, prunes: as the grid recorded them.
        axes: the axes of the cells, in order.
        missing: names of cells that are not finished.
    """

    name: str
    documents: tuple[dict[str, Any], ...]
    cells: pd.DataFrame
    stages: pd.DataFrame
    curves: pd.DataFrame
    predictions: pd.DataFrame
    prunes: pd.DataFrame
    axes: tuple[str, ...]
    missing: tuple[str, ...]

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

    def recipe(self, cell: str) -> dict[str, Any]:
        """The full recipe of a cell, empty where it was not recorded."""
        for document in self.documents:
            if cell in document.get("recipes", {}):
                recipe: dict[str, Any] = document["recipes"][cell]
                return recipe
        return {}

    def keys(self, cells: Sequence[str], stage: str) -> list[str]:
        """The distinct keys of a stage among some cells."""
        chosen = self.stages[self.stages["cell"].isin(cells) & (self.stages["stage"] == stage)]
        return list(dict.fromkeys(chosen["key"]))


def read_records(folders: Sequence[Path]) -> Records:
    """The records in some folders, each as `rosita grid` leaves it for one grid.

    Raises:
        ValueError: one line, where a folder holds no records, damaged ones, or no finished cell.
    """
    parts = [_read(folder) for folder in folders]
    if len(parts) > 1:
        parts = [_with_grid_in_names(document, frames) for document, frames in parts]
    frames = {
        name: pd.concat([part[name] for _, part in parts], ignore_index=True) for name in COLUMNS
    }
    # Grids that share a stage have each recorded its curve, its prunes and its predictions.
    for name in ("curves", "prunes", "predictions"):
        frames[name] = frames[name].drop_duplicates(ignore_index=True)
    documents = tuple(document for document, _ in parts)
    cells = frames["cells"]
    if cells.empty:
        raise ValueError(f"records must hold at least one finished cell, got none in {folders[0]}")
    if cells["cell"].duplicated().any():
        twice = cells.loc[cells["cell"].duplicated(), "cell"].iloc[0]
        raise ValueError(f"each cell must be there once, got {twice} twice")
    wanted = [cell for document in documents for cell in document.get("recipes", {})]
    missing = tuple(cell for cell in wanted if cell not in set(cells["cell"]))
    axes = tuple(c.removeprefix(AXIS) for c in cells.columns if c.startswith(AXIS))
    cells = cells.assign(
        configuration=_configurations(cells, axes),
        family=cells["grid"] + " on " + cells["task"],
    )
    return Records(
        name=", ".join(dict.fromkeys(cells["grid"])),
        documents=documents,
        cells=cells,
        stages=frames["stages"],
        curves=frames["curves"],
        predictions=frames["predictions"],
        prunes=frames["prunes"],
        axes=axes,
        missing=missing,
    )


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    path = folder / "grid.json"
    if not path.is_file():
        raise ValueError(f"records must be a folder with grid.json, got {folder}")
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"records must hold a readable grid.json, got {path}: {error}") from None
    frames = {}
    for name, columns in COLUMNS.items():
        file = folder / f"{name}.parquet"
        if not file.is_file():
            raise ValueError(f"records must hold {file.name}, got none in {folder}")
        try:
            frames[name] = pd.read_parquet(file)
        except (OSError, ValueError) as error:
            raise ValueError(f"records must be Parquet, got {file}: {error}") from None
        absent = [column for column in columns if column not in frames[name]]
        if absent:
            raise ValueError(f"{file.name} must have a column {absent[0]}, got none in {folder}")
    return document, frames


def _with_grid_in_names(
    document: dict[str, Any], frames: dict[str, pd.DataFrame]
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Cells of several grids may have the same name; teachers' predictions are named by key."""
    grids = frames["cells"]["grid"]
    grid = str(grids.iloc[0]) if len(grids) else "grid"

    def named(cell: str) -> str:
        return cell if cell.startswith("teacher:") else f"{grid}/{cell}"

    changed = {
        name: frame.assign(cell=[named(cell) for cell in frame["cell"]])
        if "cell" in frame
        else frame
        for name, frame in frames.items()
    }
    recipes = {named(cell): recipe for cell, recipe in document.get("recipes", {}).items()}
    return document | {"recipes": recipes}, changed


def kd_axis(cells: pd.DataFrame, axes: Sequence[str]) -> str | None:
    """The axis whose values are the KD settings, by whatever name."""
    for axis in axes:
        pairs = cells[[AXIS + axis, "kd_setting"]].drop_duplicates()
        if len(pairs) > 1 and not pairs[AXIS + axis].duplicated().any():
            if pairs["kd_setting"].duplicated().any():
                continue
            return axis
    return None


def _configurations(cells: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """A name for people, such as "setting 4, constant"; unique by what the cells differ in."""
    kd = kd_axis(cells, axes)
    if not axes:
        return [f"{KD_TITLES[row.kd_setting]}, {row.shape}" for row in cells.itertuples()]
    names = []
    for _, cell in cells.iterrows():
        parts = []
        for axis in axes:
            value = cell[AXIS + axis]
            if axis == kd:
                parts.append(KD_TITLES.get(str(cell["kd_setting"]), str(value)))
            elif pd.notna(value):
                parts.append(_axis_text(axis, value))
        names.append(", ".join(parts))
    return names


def _axis_text(axis: str, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if axis in SHORT_AXES:
        return f"{SHORT_AXES[axis]} {text}"
    # A value of a dotted field says little alone; a label was chosen by a person.
    return f"{axis} {text}" if "." in axis else text
