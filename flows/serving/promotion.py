"""Registering a model that a grid, or a gate, has left out of MLflow's registry."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from flows.grids.files import DEFINITION, known_cells, read_definition
from flows.serving.lookup import run_of, stage_folder
from tasks.cache.documents import RunSummary
from tasks.home import Home
from tasks.tracking.register_model import example_of, log_compressed_model
from tasks.tracking.runs import FLUSH_SECONDS, Tracking


def promote(word: str, home: Path, force: bool) -> dict[str, Any]:
    """Register the model of a run; returns its id and what it was registered as.

    Args:
        word: see `flows.serving.lookup.run_of`; a grid by its name means its best cell.
        home: where runs are.
        force: register what the recipe's gate keeps out.

    Raises:
        ValueError: where there is no such run, or its gate keeps it out.
    """
    summary = best_cell(word, home) or run_of(word, home)
    refused = kept_out(summary)
    if refused is not None and not force:
        raise ValueError(f"{word} must pass the gate of its recipe, got {refused}; see --force")
    version = summary.version
    if version is None:
        raise ValueError(f"{word} must be a run of this version, got one that cannot be registered")
    folder = stage_folder(summary, "export", home)
    [artifact] = [one.artifact for one in summary.stages if one.name == "export"]
    tracking, tags = Tracking(home), version.tags
    problem, shape = version.name.removeprefix("rosita-"), tags["rosita.shape"]
    values = {"promoted": summary.run_id}
    run = tracking.start_parent(
        problem, f"promote {summary.recipe}", values, tags["rosita.seed"], None, shape
    )
    params = {"recipe": summary.recipe, "shape": shape}
    example = example_of(stage_folder(summary, "data", home))
    log_compressed_model(
        tracking, run, problem, folder, artifact, params, tags, version.description, example
    )
    tracking.finish(run, "FINISHED", {}, {})
    tracking.flush(FLUSH_SECONDS)
    return {"run_id": summary.run_id, "registered_model": tracking.registered(run)}


def best_cell(grid: str, home: Path) -> RunSummary | None:
    """The finished cell with the best score of those that their gate lets through, or of all where
    it lets none; of a grid as it ran last, and None where that name is no grid's.

    Cells that it had before somebody changed it may be of other rows.
    """
    folder = Home(home).grid(Path(grid).name)
    if Path(grid).name != grid or not folder.is_dir():
        return None
    there = (folder / DEFINITION).exists()
    documents = known_cells(home, read_definition(home, grid)).values() if there else ()
    finished = [
        one
        for one in documents
        if one is not None
        and one["status"] == "finished"
        and isinstance(one.get("score"), float)
        and math.isfinite(one["score"])
    ]
    if not finished:
        raise ValueError(
            f"grid {grid} must have a finished cell as it is defined now, got none in {folder}; "
            f"{grid}/CELL means one of before"
        )
    ranked = sorted(finished, key=lambda one: one["score"], reverse=True)
    best = [run_of(f"{grid}/{one['cell']}", home) for one in ranked]
    return next((run for run in best if kept_out(run) is None), best[0])


def kept_out(summary: RunSummary) -> str | None:
    """Why its recipe's gate keeps a run's model out of the registry."""
    found: str | None = summary.gate.get("not_registered")
    return found
