"""The records of a grid: what its finished cells measured, small enough to be committed.

    cells.parquet        a row per finished cell
    stages.parquet       a row per stage of a cell
    curves.parquet       a row per observation of a training, once per distinct stage key
    predictions.parquet  a row per cell, split and row; `teacher:<stage key>@<tokens>` is a teacher
    prunes.parquet       a row per prune, as JSON (rosita_core.compression.prune_record)
    grid.json            definition, seeds, recipes, environments, commits, date, missing cells

They name no place of the machine that they come from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from flows.grids.definition import Cell, Grid
from flows.grids.files import known_cells, read_definition
from flows.grids.measured import MeasuredCell, curve, predictions, prunes
from tasks.home import Home
from tasks.stages.catalogue import trainings
from tasks.store.artifacts import Store
from tasks.store.json_files import read_file, read_json

DOCUMENT = "grid.json"
# From a slash that starts a path and not the rest of an address, to the path's last part.
PLACE = re.compile(r"(?<![\w.:/])/(?:[^\s/;,'\"]+/)*([^\s/;,'\"]+)")


@dataclass(frozen=True)
class GridRecords:
    """Tables by name, and grid.json as `grid`; see the module for what each holds."""

    grid: dict[str, Any]
    cells: pd.DataFrame
    stages: pd.DataFrame
    curves: pd.DataFrame
    predictions: pd.DataFrame
    prunes: pd.DataFrame


PARTS = {"definition": dict, "seeds": list, "recipes": dict, "missing": dict}
"""Of `DOCUMENT`, what every report reads."""
NAMED = {"name", "base", "set"}
"""Of the definition."""
TABLES = tuple(field.name for field in fields(GridRecords) if field.name != "grid")
COLUMNS = {
    "stages": ["cell", "stage", "key", "artifact", "seconds", "attempt", "cached"],
    "curves": ["key", "stage", "step", "name", "value", "text"],
    "predictions": ["cell", "split", "row", "label", "prediction"],
    "prunes": ["key", "stage", "record"],
}


def collect(home: Path, grid_name: str) -> GridRecords:
    """The records of the grid that ran last under this name, from what lies in a home.

    Raises:
        ValueError: where no such grid has run, or none of its cells finished.
    """
    grid = read_definition(home, grid_name)
    measured: list[MeasuredCell] = []
    missing: dict[str, str] = {}
    known = known_cells(home, grid)
    for cell, document in known.items():
        found = _measured(home, grid, cell, document)
        if isinstance(found, str):
            missing[f"{grid.name}/{cell.id}"] = found
        else:
            measured.append(found)
    if not measured:
        raise ValueError(
            f"grid must have a finished cell to be recorded, got none of {len(missing)} in "
            f"{grid.name}"
        )
    stages = [row for cell in measured for row in _stage_rows(cell)]
    distinct = {row["key"]: row for row in stages if row["stage"] in trainings()}
    tables = {
        "stages": stages,
        "curves": [row for stage in distinct.values() for row in curve(home, stage)],
        "prunes": [row for stage in distinct.values() for row in prunes(home, stage)],
    }
    return GridRecords(
        grid=_document(home, grid, tuple(known), measured, missing),
        cells=pd.DataFrame([_cell_row(cell) for cell in measured]),
        predictions=_predictions(measured),
        **{name: pd.DataFrame(rows, columns=COLUMNS[name]) for name, rows in tables.items()},
    )


def save(records: GridRecords, folder: Path) -> None:
    """Write the records into `folder`, which is made where missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        frame: pd.DataFrame = getattr(records, name)
        frame.to_parquet(folder / f"{name}.parquet", index=False, compression="zstd")
    text = json.dumps(records.grid, indent=1)
    (folder / DOCUMENT).write_text(text + "\n", encoding="utf-8")


def save_all(parts: Mapping[str, GridRecords], folder: Path) -> None:
    """Write the records of some grids, each into a folder of its name; those of one by themselves.

    Records that lay there before are replaced, of whichever grids they were.
    """
    for old in [folder, *(path.parent for path in folder.glob(f"*/{DOCUMENT}"))]:
        for name in (DOCUMENT, *(f"{table}.parquet" for table in TABLES)):
            (old / name).unlink(missing_ok=True)
        if old != folder and not any(old.iterdir()):
            old.rmdir()
    for name, records in parts.items():
        save(records, folder / name if len(parts) > 1 else folder)


def load(folder: Path) -> GridRecords:
    """Read what `save` wrote.

    Raises:
        ValueError: naming the file that is missing or cannot be read.
    """
    tables = {}
    for name in TABLES:
        path = folder / f"{name}.parquet"
        try:
            tables[name] = pd.read_parquet(path)
        except FileNotFoundError:
            raise ValueError(f"records must hold {path.name}, got none in {folder}") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"records must be Parquet, got {path}: {error}") from None
    try:
        document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"records must hold {DOCUMENT}, got none in {folder}") from None
    except ValueError as error:
        raise ValueError(f"records must hold a JSON {DOCUMENT}, got {folder}: {error}") from None
    for part, kind in PARTS.items():
        if not isinstance(document, dict) or not isinstance(document.get(part), kind):
            raise ValueError(f"records must hold a {DOCUMENT} with {part}, got {folder}")
    if lacking := NAMED - document["definition"].keys():
        raise ValueError(
            f"records must hold a {DOCUMENT} whose definition has {min(lacking)}, got {folder}"
        )
    return GridRecords(grid=document, **tables)


def _measured(
    home: Path, grid: Grid, cell: Cell, document: dict[str, Any] | None
) -> MeasuredCell | str:
    """What a cell measured, or why nothing is known."""
    if document is None:
        return "has not run"
    if document["status"] != "finished":
        return f"failed: {document['error']}"
    path = Home(home).summary(document["run_id"])
    if not path.is_file():
        return "the summary of its run is gone"
    try:
        summary = read_json(read_file(path))
    except (OSError, ValueError):
        return "the summary of its run cannot be read"
    artifacts = {stage["name"]: stage["artifact"] for stage in document["stages"]}
    store = Store(home)
    folder = store.path(artifacts["assess"])
    if not folder.is_dir():
        return "its assessment is no longer in the store"
    if (problem := store.verify(artifacts["assess"])) is not None:
        return f"its assessment is damaged: {problem}"
    return MeasuredCell(f"{grid.name}/{cell.id}", cell, document, summary, folder)


def _cell_row(cell: MeasuredCell) -> dict[str, Any]:
    summary, document = cell.summary, cell.document
    teacher, student = summary["teacher"], summary["student"]
    latencies = [name for name in student if name.startswith("latency_ms_p50_b")]
    return {
        "cell": cell.name,
        "grid": document["grid"],
        "seed": cell.cell.seed,
        **{f"axis.{axis}": label for axis, label in cell.cell.labels.items()},
        "kd_setting": summary["kd_setting"],
        "task": summary["task"],
        "shape": student["shape"],
        "params": int(student["params"]),
        "params_embedding": int(student["params_embedding"]),
        "params_encoder": int(student["params_encoder"]),
        "macs": int(student["macs"]),
        "score": student["score"],
        "score_name": summary["score_name"],
        **{f"metric.{name}": value for name, value in student["metrics"].items()},
        "taught_by": cell.taught_by,
        "teacher_score": teacher["score"],
        "teacher_shape": teacher["shape"],
        "teacher_params": int(teacher["params"]),
        "teacher_macs": int(teacher["macs"]),
        # A teacher without a score to speak of leaves nothing to retain.
        "retention": float("nan") if summary["retention"] is None else summary["retention"],
        "compression": summary["compression"],
        **{name: student[name] for name in latencies},
        **{f"teacher_{name}": teacher[name] for name in latencies},
        "seconds": sum(stage["seconds"] for stage in document["stages"]),
        "git_commit": document["git_commit"],
        "run_id": document["run_id"],
    }


def _stage_rows(cell: MeasuredCell) -> Iterator[dict[str, Any]]:
    for stage in cell.document["stages"]:
        yield {"cell": cell.name, "stage": stage["name"]} | {
            name: stage[name] for name in COLUMNS["stages"][2:]
        }


def _predictions(measured: list[MeasuredCell]) -> pd.DataFrame:
    parts: list[pd.DataFrame] = []
    teachers: set[str] = set()
    for cell in measured:
        student, teacher = predictions(cell)
        parts.append(student)
        if teacher["cell"].iloc[0] not in teachers:
            teachers.add(str(teacher["cell"].iloc[0]))
            parts.append(teacher)
    # Few different words in many rows.
    return pd.concat(parts, ignore_index=True).astype({"cell": "category", "split": "category"})


def _document(
    home: Path,
    grid: Grid,
    cells: tuple[Cell, ...],
    measured: list[MeasuredCell],
    missing: dict[str, str],
) -> dict[str, Any]:
    newest = max((cell.document for cell in measured), key=lambda document: document["finished"])
    commits = {cell.document["git_commit"] for cell in measured} - {None}
    environments: list[dict[str, Any]] = []
    for cell in measured:
        found = {name: cell.document[name] for name in ("versions", "hardware")}
        found["numerics"] = cell.summary["numerics"]
        if found not in environments:
            environments.append(found)
    document = {
        "definition": grid.model_dump(mode="json"),
        "seeds": sorted({cell.cell.seed for cell in measured}),
        "recipes": {f"{grid.name}/{c.id}": c.recipe.model_dump(mode="json") for c in cells},
        "missing": missing,
        "environments": environments,
        "commits": sorted(commits),
        "date": newest["finished"],
    }
    return without_places(document, str(home), str(Path.home()))


def without_places(document: dict[str, Any], *places: str) -> dict[str, Any]:
    """Absolute paths as their last part, inside texts too: elsewhere they say nothing.

    Those are known that stand by themselves somewhere, and `places`; they may have spaces.
    """
    named = {place for place in places if Path(place).name}
    known = sorted({*named, *_places(document)}, key=len, reverse=True)
    cleaned: dict[str, Any] = _without(document, known)
    return cleaned


def _places(value: Any) -> Iterator[str]:
    """The texts that are absolute paths."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _places(item)
    elif isinstance(value, str) and value.startswith("/") and Path(value).name:
        yield value


def _without(value: Any, known: list[str]) -> Any:
    if isinstance(value, dict):
        return {name: _without(item, known) for name, item in value.items()}
    if isinstance(value, list):
        return [_without(item, known) for item in value]
    if not isinstance(value, str):
        return value
    for place in known:
        value = value.replace(place, Path(place).name)
    return PLACE.sub(r"\1", value)
