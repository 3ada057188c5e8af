"""A Prefect worker on this machine: how it is started, and how it ends without losing work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from flows.services.servers import HOST, POLL_SECONDS, STOP_SECONDS, Server, ServerError, free_port
from tasks.home import HOME_VARIABLE, Home

POOL = "rosita"
SAVE_SECONDS = 130.0
"""A large model's checkpoint, after the step that it is at, and its way to a shared store."""
RUN_MODULES = ("prefect.engine", "prefect.flow_engine", "prefect.runner._workspace_supervisor")
"""What a process that carries out a flow run was started as."""


def worker_command(
    pool: str, name: str | None = None, queues: Sequence[str] = (), limit: int | None = None
) -> tuple[str, ...]:
    """A worker that runs each flow run in a process of its own.

    Args:
        pool: whose runs it takes.
        name: of its own.
        queues: of the pool that it asks; none: all of them.
        limit: runs at a time; None: as many as come.
    """
    arguments = ["-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
    arguments += [] if name is None else ["--name", name]
    for queue in queues:
        arguments += ["--work-queue", queue]
    arguments += [] if limit is None else ["--limit", str(limit)]
    return (sys.executable, *arguments)


def worker_environment(api: str, home: Path) -> dict[str, str]:
    """The variables of a worker of the Prefect server at `api`, whose runs work in `home`."""
    return dict(os.environ) | {
        "PREFECT_API_URL": api,
        HOME_VARIABLE: str(home),
        # What a worker says is for whoever looks after it, unlike a command's.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def worker_beside(
    api: str, home: Path, pool: str
) -> Iterator[tuple[Server, subprocess.Popen[bytes]]]:
    """The worker that `rosita ui --worker` starts; it answers once it asks for runs."""
    from flows.services.servers import held, running

    port = free_port()
    # Prefect's own default is every address of the machine.
    answering = {"PREFECT_WORKER_WEBSERVER_HOST": HOST, "PREFECT_WORKER_WEBSERVER_PORT": str(port)}
    worker = Server(
        name="worker",
        port=port,
        command=held((*worker_command(pool)[2:], "--with-healthcheck")),
        environment=worker_environment(api, home) | answering,
        health="/health",
        log=Home(home).logs / "worker.log",
    )
    with running([worker]) as processes:
        try:
            yield worker, processes[worker.name]
        finally:
            save_runs(processes[worker.name].pid)


def run_worker(
    command: Sequence[str], environment: Mapping[str, str], stop: threading.Event
) -> None:
    """A worker on this terminal, until `stop` is set; its runs save a checkpoint then.

    Raises:
        ServerError: where it ends before that.
    """
    # A session of its own: Ctrl-C must reach its runs first.
    process = subprocess.Popen(command, env=dict(environment), start_new_session=True)
    try:
        while not stop.wait(POLL_SECONDS):
            if (code := process.poll()) is not None:
                raise ServerError(f"the worker ended with exit code {code}")
    finally:
        save_runs(process.pid)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def save_runs(worker: int) -> None:
    """Ask the runs of a worker to save and end, and wait for them; it would kill them as it ends.

    Args:
        worker: its process id.
    """
    try:
        children = psutil.Process(worker).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    runs = [child for child in children if _carries_out_a_run(child)]
    for run in runs:
        try:
            run.terminate()
        except psutil.NoSuchProcess:
            continue
    if runs:
        print(f"{len(runs)} running: saving before the worker ends", file=sys.stderr, flush=True)
    psutil.wait_procs(runs, timeout=SAVE_SECONDS)


def _carries_out_a_run(process: psutil.Process) -> bool:
    try:
        return any(module in process.cmdline() for module in RUN_MODULES)
    except psutil.Error:
        return False
