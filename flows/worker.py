"""A Prefect worker on this machine: what it needs of its server, and how it is started."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from flows.servers import HOST, Server

POOL = "rosita"


def worker_command(pool: str, name: str | None) -> tuple[str, ...]:
    """A worker that runs each flow run in a process of its own."""
    arguments = ("-m", "prefect", "worker", "start", "--pool", pool, "--type", "process")
    return (sys.executable, *arguments, *(() if name is None else ("--name", name)))


def worker_environment(api: str, home: Path) -> dict[str, str]:
    """The variables of a worker of the Prefect server at `api`, whose runs work in `home`."""
    return dict(os.environ) | {
        "PREFECT_API_URL": api,
        "ROSITA_HOME": str(home),
        # What a worker says is for whoever looks after it, not for the terminal of a run.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
        "PYTHONUNBUFFERED": "1",
    }


def worker_beside(api: str, home: Path, pool: str, logs: Path) -> Server:
    """The worker that `rosita ui --worker` starts; it answers once it asks for runs."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    # Prefect's own default is every address of the machine.
    answering = {"PREFECT_WORKER_WEBSERVER_HOST": HOST, "PREFECT_WORKER_WEBSERVER_PORT": str(port)}
    return Server(
        name="worker",
        port=port,
        command=(*worker_command(pool, None), "--with-healthcheck"),
        environment=worker_environment(api, home) | answering,
        health="/health",
        log=logs / "worker.log",
    )
