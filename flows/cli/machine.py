"""Commands about the machine: the servers to look at, and whether it can run the pipeline."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import JsonOption, print_json

if TYPE_CHECKING:
    import subprocess
    import threading

    from flows.services.servers import Server
    from tasks.home import Home

PREFECT_PORT = 4200
MLFLOW_PORT = 5000


def ui(
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's pages.")] = PREFECT_PORT,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's pages.")] = MLFLOW_PORT,
    prefect: Annotated[bool, typer.Option(help="Start Prefect's server.")] = True,
    mlflow: Annotated[bool, typer.Option(help="Start MLflow's server.")] = True,
    worker: Annotated[
        bool, typer.Option("--worker", help="Start a worker, which runs what is deployed.")
    ] = False,
) -> None:
    """Serve flow runs (Prefect) and results (MLflow) on loopback until Ctrl-C.

    All write their logs under ROSITA_HOME/logs. Where MLFLOW_TRACKING_URI names a server, that
    one has the runs, and none is started. A worker takes runs from the work pool `rosita`, which is
    made with it; see deployments/README.md. Prefect's server then asks for a password, since
    whoever it answers can start commands: one per home, shown on a terminal and kept in
    ROSITA_HOME/prefect/password.
    """
    from flows.engine.pages import serving
    from flows.services.password import use_server_password
    from flows.services.servers import (
        check_ports,
        mlflow_server,
        prefect_server,
        running,
        stop_requests,
        wait_until_ready,
        watch,
    )
    from tasks.home import HOME_VARIABLE, Home, home_directory
    from tasks.host.redaction import redacted, tracking_uri
    from tasks.store.artifacts import is_writable

    home = home_directory()
    places = Home(home)
    uri = tracking_uri(home)
    elsewhere = uri.startswith(("http", "databricks"))
    started = {"prefect_port": (prefect, prefect_port), "mlflow_port": (mlflow, mlflow_port)}
    if elsewhere:
        started.pop("mlflow_port")
    ports = {name: port for name, (wanted, port) in started.items() if wanted}
    if worker and not prefect:
        raise ValueError("worker must have Prefect's server beside it, got --no-prefect")
    if not ports:
        there = f"; MLflow is at {redacted(uri)}" if elsewhere else ""
        raise ValueError(f"at least one server must be started, got none{there}")
    check_ports(ports)
    if not is_writable(home):
        raise ValueError(f"{HOME_VARIABLE} must be a directory that can be written, got {home}")
    servers = []
    if "prefect_port" in ports:
        password = use_server_password(home) if worker else None
        servers.append(prefect_server(prefect_port, places.logs, password))
    if "mlflow_port" in ports:
        servers.append(mlflow_server(mlflow_port, uri, places.mlflow_artifacts, places.logs))
    # Nothing may come between a signal and the end of the servers, so this goes first.
    with stop_requests() as stop, running(servers) as processes:
        names = " and ".join(server.name for server in servers)
        print(f"starting {names}; logs in {places.logs}", file=sys.stderr)
        wait_until_ready(servers, processes, stop)
        # Inside, so that it ends first, and its server hears how its runs ended.
        with _beside(servers[0] if worker else None, home, stop) as (beside, its_process):
            everything = [*servers, *beside]
            processes |= its_process
            wait_until_ready(everything, processes, stop)
            if not stop.is_set():
                urls = {server.name: server.url for server in servers}
                with serving(home, urls.get("prefect"), urls.get("mlflow")):
                    _show_addresses(urls, redacted(uri), places if worker else None)
                    watch(everything, processes, stop)
    print("stopped", file=sys.stderr)


def doctor(
    json_: JsonOption = False,
) -> None:
    """Check whether this machine can run the pipeline, and every artifact in the store.

    Ends with exit code 1 where something keeps it from running.
    """
    from flows.maintenance.doctor import examine, show_checks
    from flows.maintenance.doctor_services import PROBLEM
    from tasks.home import home_directory

    checks = examine(home_directory())
    problems = [check.name for check in checks if check.status == PROBLEM]
    if json_:
        rows = [{"name": c.name, "status": c.status, "detail": c.detail} for c in checks]
        print_json({"ok": not problems, "checks": rows})
    else:
        show_checks(checks)
    if problems:
        from tasks.host.failure import Failure

        raise Failure(f"this machine has problems: {', '.join(problems)}")


def deployments(
    copy: Annotated[Path, typer.Option("--copy", help="A directory that is new or empty.")],
) -> None:
    """Write the files that an operator changes and deploys, as they came with this version.

    prefect.yaml has the deployments, compose.yaml a team's servers and workers; README.md and
    TEAM.md say how they are used.
    """
    import shutil

    from tasks.host.new_folder import new_folder

    # Beside this package, whichever other `deployments` there may be.
    source = Path(__file__).parents[2] / "deployments"
    code_and_secrets = shutil.ignore_patterns("__init__.py", "__pycache__", ".env")
    with new_folder(copy, "copy") as whole:
        shutil.copytree(source, whole, ignore=code_and_secrets)
    print(copy / "README.md")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(ui)
    app.command()(doctor)
    app.command()(deployments)


@contextmanager
def _beside(
    prefect: Server | None, home: Path, stop: threading.Event
) -> Iterator[tuple[list[Server], dict[str, subprocess.Popen[bytes]]]]:
    """The worker of a server that answers; nothing without a server or after `stop`."""
    if prefect is None or stop.is_set():
        yield [], {}
        return
    from flows.services.work_pool import prepare_work_pool
    from flows.services.worker import POOL, worker_beside

    api = f"{prefect.url}/api"
    prepare_work_pool(api)
    with worker_beside(api, home, POOL) as (worker, process):
        yield [worker], {worker.name: process}


def _show_addresses(urls: dict[str, str], tracking: str, worker: Home | None) -> None:
    """Say where the servers are; `worker` is the home whose runs a worker takes."""
    from flows.services.mlflow_pages import experiment_pages
    from flows.services.password import VARIABLE
    from flows.services.worker import POOL

    if "prefect" in urls:
        print(f"Prefect: {urls['prefect']}")
    if "mlflow" in urls:
        print(f"MLflow:  {urls['mlflow']}")
        for name, page in experiment_pages(urls["mlflow"]).items():
            print(f"  {name}: {page}")
    elif tracking.startswith("http"):
        print(f"MLflow:  {tracking} (MLFLOW_TRACKING_URI)")
    if "prefect" in urls and os.environ.get("PREFECT_API_URL") != f"{urls['prefect']}/api":
        print("for runs that show up in Prefect while they are running, in their shell:")
        print(f"  export PREFECT_API_URL={urls['prefect']}/api")
        if worker is not None:
            print(f'  export {VARIABLE}="$(cat {shlex.quote(str(worker.prefect_password))})"')
    if worker is not None:
        print(f"a worker takes runs from the work pool {POOL}")
        if sys.stdout.isatty():
            print(f"Prefect's page asks for a password: {os.environ[VARIABLE]}")
    print("Ctrl-C stops what was started.", flush=True)
