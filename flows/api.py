"""Compression from Python: `from flows.api import compress, grid, load`, for notebooks and scripts.

Each function does what the command of its name does, in this process, and works in a running event
loop, as notebooks have one. Everything is kept under `ROSITA_HOME`, so that a notebook and the
command line see the same runs. Import this before torch, prefect and mlflow: it sets what they read
when they are imported, unless it is set already.

    from flows.api import compress, load

    summary = compress("demo", changes={"width.keep_heads": 2})
    summary["retention"], summary["student"]["params"]
    load().predict(["A film to remember."])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.recipes.changes import Changes
from tasks.host.environment import prepare_environment

prepare_environment()

if TYPE_CHECKING:
    from flows.serving.predict import Predictor

__all__ = ["compress", "grid", "load"]


def compress(
    recipe: str | Path | Mapping[str, Any], changes: Changes = (), *, preflight: bool | None = None
) -> dict[str, Any]:
    """Compress a model by a recipe; returns the summary that is also written as summary.json.

    Stages that were computed before are taken from the cache. Progress goes to stderr. An interrupt
    saves a checkpoint; the same call goes on from there.

    Args:
        recipe: a shipped recipe (`rosita recipes` lists them), a YAML file, or what such a file
            holds, such as `{"base": "demo", "width": {"keep_heads": 2}}`.
        changes: dotted field -> value, such as `{"width.keep_heads": 2}`.
        preflight: run every stage in miniature first; None: where the run is long.

    Raises:
        ValueError: for a request that cannot be right, one line naming the field, the bound and the
            value. Nothing was computed then.
        RuntimeError: one line that names the stage that failed, or why the run ended early.
    """
    from flows.recipes.shipped import load_recipe

    loaded = load_recipe(recipe, changes)
    from flows.engine.checks import prepare_request

    request = prepare_request(loaded, download=True)
    from flows.compress import compress as flow
    from flows.engine.prefect_loss import run_flow
    from flows.engine.preflight.errors import PreflightError, PreflightRefused
    from flows.engine.run import StageError

    summary: dict[str, Any] = run_flow(
        request.home,
        "compress",
        lambda: flow(request.recipe, preflight=preflight),
        (StageError, PreflightError, PreflightRefused),
    )
    return summary


def grid(
    grid: str | Path | Mapping[str, Any],
    changes: Changes = (),
    *,
    recipe: str | None = None,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    max_cells: int | None = None,
) -> dict[str, Any]:
    """Run many recipes as one DAG, one cell after the other; returns what became of each.

    Args:
        grid: a shipped grid, a YAML or TOML file, or what such a file holds, such as
            `{"name": "rates", "base": "demo", "axes": {"width.learning_rate": [1e-4, 1e-3]}}`.
        changes: dotted field -> value, for all cells.
        recipe: what a shipped grid starts from.
        seeds: instead of the grid's own.
        only: run these cells alone: a cell, a label or `axis=label`.
        max_cells: run at most so many cells that have not run yet.

    Raises:
        ValueError: for a request that cannot be right, as for `compress`.
        RuntimeError: one line, where cells failed. The others have run, and `document` of the error
            holds what became of each.
    """
    from flows.grids.loading import chosen_cells, load_grid

    definition = load_grid(grid, recipe, changes, seeds)
    if max_cells is not None and max_cells < 1:
        raise ValueError(f"max_cells must be at least 1, got {max_cells}")
    chosen_cells(definition, tuple(only))
    from flows.engine.prefect_loss import run_flow
    from flows.grid import GridError
    from flows.grid import grid as flow
    from tasks.home import home_directory

    document: dict[str, Any] = run_flow(
        home_directory(),
        "grid",
        lambda: flow(definition, tuple(only), max_cells),
        (GridError, ValueError),
    )
    return document


def load(
    model: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "fp32",
    threads: int | str = "auto",
) -> Predictor:
    """A compressed model in memory: its `model`, its `tokenizer`, and `predict(texts)`.

    Args:
        model: a checkpoint directory, the id of a finished run, or None for the newest run.
        device: auto, cpu, cuda or cuda:<index>.
        precision: fp32, bf16 or auto.
        threads: CPU threads of this process from then on, or auto for all cores.

    Raises:
        ValueError: where there is no such model, or this machine has no such device.
    """
    from flows.serving.lookup import compressed_model
    from tasks.home import home_directory

    found = compressed_model(None if model is None else str(model), home_directory())
    from flows.serving.predict import load_predictor
    from tasks.host.hardware import resolve_numerics

    numerics = resolve_numerics(device, precision, threads, False)
    return load_predictor(found.folder, numerics)
