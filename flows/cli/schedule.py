"""Commands that run recipes at times, or for a server: `rosita schedule` and `rosita worker`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import SetOption
from flows.services.worker import POOL


def schedule(
    recipe: Annotated[
        str, typer.Argument(help="A shipped recipe (see `rosita recipes`) or a file.")
    ],
    cron: Annotated[
        str | None, typer.Option("--cron", help='When, e.g. "0 2 * * *" for every night at two.')
    ] = None,
    interval: Annotated[
        float | None, typer.Option("--interval", help="Instead of it: seconds between two runs.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="Of --cron, e.g. Europe/Berlin; UTC where it is left out.")
    ] = None,
    set_: SetOption = None,
) -> None:
    """Run a recipe on a schedule, here and for as long as this command runs.

    A run that is still going when the next one is due goes on, and the next one is left out. With
    PREFECT_API_URL the runs appear on that server; without it a server starts and stops with this
    command, and asks for the password in ROSITA_HOME/prefect/password. Ctrl-C ends all; a run that
    it stops saves a checkpoint first.
    """
    from flows.services.schedule import next_time, times

    when = times(cron, interval, timezone)
    first = next_time(when)
    from flows.engine.checks import prepare_request
    from flows.recipes.files import SUFFIXES
    from flows.recipes.shipped import RECIPES, load_recipe

    loaded = load_recipe(recipe, tuple(set_ or ()))
    if recipe not in RECIPES and Path(recipe).suffix not in SUFFIXES:
        # The form of the deployment, which a run's parameters must fit, refuses other files.
        raise ValueError(f"recipe must end in {', '.join(SUFFIXES)} to be scheduled, got {recipe}")
    request = prepare_request(loaded, download=True)
    from flows.api import form
    from flows.deployed import compress
    from flows.services.password import say_if_open
    from flows.services.run_server import reachable_api
    from flows.services.schedule import serve
    from tasks.home import HOME_VARIABLE

    api = reachable_api(request.home, of_a_run=False)
    say_if_open(api)
    # The runs are processes of their own, in folders of their own.
    os.environ[HOME_VARIABLE] = str(request.home)
    parameters = form(recipe, tuple(set_ or ()), request.recipe)
    serve(compress, api, request.recipe.name, when, first, parameters)
    print("stopped", file=sys.stderr)


def worker(
    pool: Annotated[str, typer.Option(help="The work pool whose runs it takes.")] = POOL,
    name: Annotated[str | None, typer.Option(help="What it is called; a name of its own.")] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(help="Take runs of this queue alone: gpu, default. Repeat it for several."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Runs at a time; as many as come.")] = None,
) -> None:
    """Take runs of deployments from Prefect's server at PREFECT_API_URL, until Ctrl-C.

    The work pool is made where it is missing. Each run is a process of its own, in the ROSITA_HOME
    of this command. As the worker ends, what runs saves a checkpoint and waits for another worker.

    Of several machines, each takes one training at a time with --queue gpu --limit 1; reports are
    then for a worker with --queue default.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    from prefect.settings import get_current_settings

    from flows.services.password import say_if_open
    from flows.services.servers import stop_requests
    from flows.services.work_pool import prepare_work_pool
    from flows.services.worker import run_worker, worker_command, worker_environment
    from tasks.home import home_directory

    api = get_current_settings().api.url
    if not api:
        raise ValueError("PREFECT_API_URL must name Prefect's server (see `rosita ui`), got none")
    say_if_open(api)
    prepare_work_pool(api, pool)
    with stop_requests() as stop:
        environment = worker_environment(api, home_directory())
        run_worker(worker_command(pool, name, queue or (), limit), environment, stop)
    print("stopped", file=sys.stderr)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(schedule)
    app.command()(worker)
