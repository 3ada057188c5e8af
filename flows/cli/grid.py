"""The command that runs many recipes as one DAG."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.options import JsonOption, print_json

GridOption = Annotated[
    str,
    typer.Option("--grid", "-g", help="A shipped grid (see `rosita recipes`) or a file."),
]
GridRecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", "-r", help="What a shipped grid starts from, e.g. minilm-sst2."),
]
GridSetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="Change one field in all cells. Repeatable."),
]
SeedsOption = Annotated[
    str | None, typer.Option("--seeds", help="Instead of the grid's own, e.g. `42,43`.")
]
MOST_GPUS = 10**6


def grid(
    grid_: GridOption,
    recipe: GridRecipeOption = None,
    set_: GridSetOption = None,
    seeds: SeedsOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Run these cells: a cell, a label or axis=label. Repeatable."),
    ] = None,
    max_cells: Annotated[
        int | None,
        typer.Option("--max-cells", help="Run at most so many cells that have not run yet."),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", help="Stages at a time, each in a process of its own.")
    ] = 1,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="Run on the workers of a Dask cluster: tcp://host:8786."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what would run and how long; run nothing.")
    ] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Show what it would cost; run nothing.")
    ] = False,
    gpus: Annotated[
        int | None, typer.Option("--gpus", help="Of the estimate: GPUs (or other devices); 1.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Run many recipes as one DAG: stages that several cells need run once.

    A stage that fails stops only what reads from it; a second call runs only what is missing.
    """
    from flows.grids.loading import load_grid
    from tasks.host.failure import Failure

    definition = load_grid(grid_, recipe, tuple(set_ or ()), _seeds(seeds))
    if gpus is not None and not estimate:
        raise ValueError(f"gpus must be left out unless --estimate is given, got {gpus}")
    if plan and estimate:
        raise ValueError("plan and estimate must not be asked for at once, got both")
    if gpus is not None and not 1 <= gpus <= MOST_GPUS:
        raise ValueError(f"gpus must be in [1, {MOST_GPUS:,}], got {gpus}")
    if runs := not (plan or estimate):
        from flows.services.run_server import begin_api
        from tasks.home import home_directory

        begin_api(home_directory())
    from flows.grid import GridError, grid_request
    from flows.grids.tables import plan_document, plan_line, show_grid, show_grid_plan

    asked = grid_request(definition, only or (), max_cells, workers, cluster, download=runs)
    if plan:
        if json_:
            print_json(plan_document(definition, asked.cells, asked.plan))
        else:
            show_grid_plan(definition, asked.cells, asked.requests, asked.plan)
        return
    if estimate:
        from flows.grids.cost import cost_document, cost_of, show_cost

        cost = cost_of(asked.plan, gpus or 1)
        if json_:
            print_json(cost_document(definition, cost))
        else:
            show_cost(definition, cost)
        return
    from flows.api import run_grid
    from tasks.host.terminal import progress_display

    progress_display().line(plan_line(definition, asked.cells, asked.plan))
    failure: str | None = None
    try:
        document = run_grid(asked, grid_, recipe, tuple(set_ or ()))
    except GridError as error:
        document, failure = error.document, str(error)
    if json_:
        print_json(document)
    else:
        show_grid(document)
    if failure is not None:
        raise Failure(failure)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(grid)


def _seeds(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"seeds must be whole numbers such as 42,43, got {text!r}") from None
