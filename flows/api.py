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
from tasks.home import home_directory
from tasks.host.environment import keep_prefect_in, prepare_environment, stand_in_for_a_user

prepare_environment()
stand_in_for_a_user(home_directory())
keep_prefect_in(home_directory())

if TYPE_CHECKING:
    from flows.grid import GridRequest
    from flows.recipes.request import Request
    from flows.recipes.schema import Recipe
    from flows.serving.predict import Predictor

__all__ = ["compress", "grid", "load"]


def compress(
    recipe: str | Path | Mapping[str, Any], changes: Changes = (), *, preflight: bool | None = None
) -> dict[str, Any]:
    """Compress a model by a recipe; returns the summary that is also written as summary.json.

    Stages that were computed before are taken from the cache. Progress goes to stderr. An interrupt
    saves a checkpoint; the same call goes on from there.

    Args:
        recipe: a shipped recipe (`rosita recipes` lists them), a YAML, TOML or JSON file, or what
            such a file holds, such as `{"base": "demo", "width": {"keep_heads": 2}}`.
        changes: dotted field -> value, such as `{"width.keep_heads": 2}`.
        preflight: run every stage in miniature first; None: where the run is long.

    Raises:
        ValueError: for a request that cannot be right, one line naming the field, the bound and the
            value. Nothing was computed then.
        RuntimeError: one line that names the stage that failed, or why the run ended early.
    """
    from flows.recipes.shipped import load_recipe

    loaded = load_recipe(recipe, changes)
    from flows.services.run_server import begin_api

    begin_api(home_directory())
    from flows.engine.checks import prepare_request

    request = prepare_request(loaded, download=True)
    from flows.deployed import compress as flow
    from flows.engine.preflight.errors import PreflightError, PreflightRefused
    from flows.engine.recording import StageError

    wanted = {None: "auto", True: "yes", False: "no"}[preflight]
    given = {**form(recipe, changes, loaded), "preflight": wanted}
    summary: dict[str, Any] = run_prepared(
        request, flow, given, (StageError, PreflightError, PreflightRefused)
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
    workers: int = 1,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Run many recipes as one DAG of distinct stages; returns what became of each cell.

    Args:
        grid: a shipped grid, a YAML, TOML or JSON file, or what such a file holds, such as
            `{"name": "rates", "base": "demo", "axes": {"width.learning_rate": [1e-4, 1e-3]}}`.
        changes: dotted field -> value, for all cells.
        recipe: what a shipped grid starts from.
        seeds: instead of the grid's own.
        only: run these cells alone: a cell, a label or `axis=label`.
        max_cells: run at most so many cells that have not run yet.
        workers: stages at a time, each in a process of its own.
        cluster: address of a Dask scheduler on whose workers they are computed instead.

    Raises:
        ValueError: for a request that cannot be right, as for `compress`.
        RuntimeError: one line, where cells failed. The others have run, and `document` of the error
            holds what became of each.
    """
    from flows.grids.loading import load_grid

    definition = load_grid(grid, recipe, changes, seeds)
    from flows.services.run_server import begin_api

    begin_api(home_directory())
    from flows.grid import grid_request

    asked = grid_request(definition, only, max_cells, workers, cluster)
    return run_grid(asked, grid, recipe, changes)


def run_grid(
    asked: GridRequest,
    source: str | Path | Mapping[str, Any],
    recipe: str | None,
    changes: Changes,
) -> dict[str, Any]:
    """Run a grid that was checked before; the rest is what it was made of, as for `grid`."""
    from flows.deployed import ALL_CELLS, NO_RECIPE
    from flows.deployed import grid as flow
    from flows.grid import GridError
    from flows.recipes.changes import fields_of, texts_of
    from tasks.execution.workers import WorkersError

    name = asked.definition.name if isinstance(source, Mapping) else str(source)
    given: dict[str, Any] = {
        **({"grid_file": str(Path(name).absolute())} if Path(name).is_file() else {"grid": name}),
        "recipe": recipe or NO_RECIPE,
        "settings": texts_of(fields_of(changes)),
        "seeds": asked.definition.seeds,
        "only": asked.only,
        "max_cells": asked.max_cells or ALL_CELLS,
        "workers": asked.workers,
        "cluster": asked.cluster or "",
    }
    document: dict[str, Any] = run_prepared(asked, flow, given, (GridError, WorkersError))
    return document


def form(
    source: str | Path | Mapping[str, Any], changes: Changes, loaded: Recipe
) -> dict[str, Any]:
    """The parameters of a flow of `flows.deployed` that mean a recipe.

    A recipe that has neither a name nor a file is another one with all its fields changed.
    """
    from flows.recipes.changes import fields_of, texts_of
    from flows.recipes.shipped import RECIPES

    if isinstance(source, Mapping):
        return {"settings": texts_of(loaded.model_dump(mode="json"))}
    settings = texts_of(fields_of(changes))
    if str(source) in RECIPES:
        return {"recipe": str(source), "settings": settings}
    return {"recipe_file": str(Path(source).absolute()), "settings": settings}


def run_prepared(
    request: Request | GridRequest,
    flow: Any,
    given: Mapping[str, Any],
    expected: tuple[type[Exception], ...],
) -> Any:
    """What a flow returns for a request that was checked before, and that `given` describes."""
    from flows.engine.prefect_loss import run_flow
    from flows.services.dead_runs import tell_of_dead_runs
    from flows.services.deployed_run import prepared
    from flows.services.run_server import reachable_api

    home = home_directory()
    reachable_api(home)
    tell_of_dead_runs(home)
    # A form refuses what a person may well type.
    flow = flow.with_options(validate_parameters=False, retries=0)
    # A deployment's limit frees its worker. Who waits here stops a run with Ctrl-C, which saves a
    # checkpoint. with_options takes None for nothing said.
    flow.timeout_seconds = None
    with prepared(request):
        return run_flow(home, flow.name, lambda: flow(**given), expected)


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

    found = compressed_model(None if model is None else str(model), home_directory())
    from flows.serving.predict import load_predictor
    from tasks.host.hardware import resolve_numerics

    numerics = resolve_numerics(device, precision, threads, False)
    return load_predictor(found.folder, numerics)
