"""The command that runs many recipes as one DAG."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

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
        int, typer.Option("--workers", help="Cells at a time, each in a process of its own.")
    ] = 1,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster", help="Run on a Dask cluster: tcp://host:8786, or `local` for --workers."
        ),
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
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Run many recipes as one DAG: stages that several cells need run once.

    A cell that fails stops no other; a second call runs only what is missing.
    """
    from flows.engine.prefect_loss import Failure, run_flow
    from flows.grids.loading import chosen_cells, load_grid

    definition = load_grid(grid_, recipe, tuple(set_ or ()), _seeds(seeds))
    if gpus is not None and not estimate:
        raise ValueError(f"gpus must be left out unless --estimate is given, got {gpus}")
    if plan and estimate:
        raise ValueError("plan and estimate must not be asked for at once, got both")
    for name, number in (("workers", workers), ("max_cells", max_cells), ("gpus", gpus)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    cells = chosen_cells(definition, tuple(only or ()))
    if cluster is not None:
        from flows.grids.executors.dask_cluster import check_cluster

        check_cluster(cluster, workers)
    from flows.grids.plan import limited, plan_grid, prepared
    from flows.grids.tables import plan_document, plan_line, show_grid, show_grid_plan
    from tasks.home import Home, home_directory

    planned = plan_grid(prepared(cells, download=not (plan or estimate)))
    cells = limited(cells, planned, max_cells)
    planned = planned.of(cells)
    if plan:
        if json_:
            print(json.dumps(plan_document(definition, cells, planned), indent=2))
        else:
            show_grid_plan(definition, cells, planned)
        return
    if estimate:
        from flows.grids.cost import cost_document, cost_of, show_cost

        cost = cost_of(planned, gpus or 1)
        if json_:
            print(json.dumps(cost_document(definition, cost), indent=2))
        else:
            show_cost(definition, cost)
        return
    from flows.grid import GridError
    from flows.grid import grid as flow
    from flows.grids.executors.dask_cluster import ClusterError
    from flows.services.servers import ServerError, start_one_server
    from tasks.host.terminal import progress_display

    progress_display().line(plan_line(definition, cells, planned))
    document: dict[str, Any]
    failure: str | None = None
    home = home_directory()
    try:
        if min(workers, len(cells)) > 1 or cluster is not None:
            start_one_server(Home(home).logs)
        document = run_flow(
            home,
            "grid",
            lambda: flow(definition, tuple(only or ()), max_cells, workers, cluster),
            (GridError, ClusterError),
        )
    except GridError as error:
        document, failure = error.document, str(error)
    except ServerError as error:
        raise Failure(str(error)) from None
    if json_:
        print(json.dumps(document, indent=2))
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
