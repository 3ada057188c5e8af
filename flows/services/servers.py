"""Servers on loopback that start together, are watched together and stop together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.host.environment import PREFECT_API_URL, PREFECT_HOME
from tasks.host.failure import Failure
from tasks.host.network import unreachable
from tasks.host.one_machine import SQLITE, check_writer
from tasks.host.terminal import progress_display

HOST = "127.0.0.1"
LAST_PORT = 65535
# A busy machine takes most of a minute to import and migrate.
START_SECONDS = 180.0
LONG_SECONDS = 20.0
"""Of a start, after which it is said what is waited for."""
# Asked to stop; after that killed. Both together stay below ten seconds.
STOP_SECONDS = 7.0
POLL_SECONDS = 0.25
TAIL_LINES = 8
TAIL_BYTES = 16384
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


DATABASES = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
"""Of Prefect's server, where it is not the SQLite file in PREFECT_HOME."""

HELD = "flows.services.held"
OF_A_RUN = "of-a-run"
"""Of a server without pages, schedules and what watches over workers."""
CAUSES = {
    "Can't locate revision identified by": "its database was made by another version of Prefect; "
    "name another folder by PREFECT_HOME, or use that version",
    "unable to open database file": "its database cannot be opened",
    "attempt to write a readonly database": "its database cannot be written",
    "file is not a database": "its database is damaged",
}
"""What a server of Prefect says as it ends, and what that means."""


class ServerError(Failure):
    """A server could not be started or ended by itself; the message has its last lines."""


@dataclass(frozen=True)
class Server:
    """A server process.

    Attributes:
        name: for people.
        port: on loopback.
        command: what is run.
        environment: all of the process's variables.
        health: path that answers 200 once the server is up.
        log: file that takes its output.
    """

    name: str
    port: int
    command: tuple[str, ...]
    environment: Mapping[str, str]
    health: str
    log: Path

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


def prefect_server(
    port: int, logs: Path, password: str | None = None, of_a_run: bool = False
) -> Server:
    """Prefect's API and UI, over the database in PREFECT_HOME.

    Args:
        port: on loopback.
        logs: the folder of its log.
        password: `name:password`, without which the API answers nobody; None: it needs none.
        of_a_run: it serves one command's runs and nobody looks at it, so it has no pages and no
            schedules. It starts sooner.
    """
    environment = _environment()
    if password is not None:
        environment["PREFECT_SERVER_API_AUTH_STRING"] = password
    environment["PREFECT_SERVER_API_HOST"] = HOST
    environment["PREFECT_SERVER_API_PORT"] = str(port)
    environment["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] = f"http://{HOST}:{port}"
    place = Path(environment.get(PREFECT_HOME) or "~/.prefect").expanduser()
    place.mkdir(parents=True, exist_ok=True)
    if not any(environment.get(name) for name in DATABASES):
        check_writer(f"{SQLITE}{place / 'prefect.db'}", f"{PREFECT_API_URL} must name one server")
    # Else the page would talk to whatever server the user's own shell points to.
    environment.pop(PREFECT_API_URL, None)
    environment["PREFECT_SERVER_UI_API_URL"] = f"http://{HOST}:{port}/api"
    environment["PREFECT_SERVER_UI_ENABLED"] = "true"
    # A command's own console has its progress; a server's log has what goes wrong in it.
    environment["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "WARNING"
    # SQLite lets one write at a time, and those of a busy machine wait long.
    environment.setdefault("PREFECT_SERVER_DATABASE_TIMEOUT", "60")
    environment.setdefault("PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT", "false")
    if of_a_run:
        # Kinds of blocks, for forms on pages. To list them, it would import all of Prefect's
        # collections.
        environment["PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION"] = "false"
        environment["PREFECT_SERVER_REGISTER_BLOCKS_ON_START"] = "false"
    return Server(
        name="prefect",
        port=port,
        command=held(("flows.services.guarded_prefect", str(port), *((OF_A_RUN,) * of_a_run))),
        environment=environment,
        health="/api/health",
        log=logs / "prefect.log",
    )


def mlflow_server(port: int, uri: str, artifacts: Path, logs: Path) -> Server:
    """MLflow's API and UI over the store at `uri`, a database or a directory."""
    check_writer(uri, "MLFLOW_TRACKING_URI must name one server")
    # Jobs (scoring traces and the like) have nothing to do here and cost two more processes.
    environment = _environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    # Not as an argument, which every user of the machine can read: there may be a password in it.
    environment["MLFLOW_BACKEND_STORE_URI"] = uri
    arguments = (
        *("mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
        *("--artifacts-destination", artifacts.as_uri()),
    )
    return Server(
        name="mlflow",
        port=port,
        command=held(arguments),
        environment=environment,
        health="/health",
        log=logs / "mlflow.log",
    )


def check_ports(ports: Mapping[str, int]) -> None:
    """Refuse ports that are out of range, the same, or taken.

    Args:
        ports: by the name of the option.

    Raises:
        ValueError: naming the option and the port.
    """
    for name, port in ports.items():
        if not 1 <= port <= LAST_PORT:
            raise ValueError(f"{name} must be in [1, {LAST_PORT}], got {port}")
        others = [other for other in ports if other != name and ports[other] == port]
        if others:
            raise ValueError(f"{name} must differ from {others[0]}, got {port} for both")
        with socket.socket() as probe:
            # A port whose last connections are just closing is free for a server.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise ValueError(
                    f"{name} must be a free port of {HOST}, got {port}: {error.strerror}"
                ) from None


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that Ctrl-C, a termination signal or a closed terminal sets, inside the block."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in STOP_SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def running(servers: Sequence[Server]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """The processes of `servers` by name; all of them are stopped when the block ends."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for server in servers:
            server.log.parent.mkdir(parents=True, exist_ok=True)
            with server.log.open("wb") as log:
                processes[server.name] = subprocess.Popen(
                    server.command,
                    env=dict(server.environment),
                    # Closed with this process, however it ends; the server then ends as well.
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # A group of its own: Ctrl-C reaches this process only, which then stops
                    # each server with everything that it started.
                    start_new_session=True,
                )
        yield processes
    finally:
        _stop(list(processes.values()))


def wait_until_ready(
    servers: Sequence[Server],
    processes: Mapping[str, subprocess.Popen[bytes]],
    stop: threading.Event,
) -> None:
    """Return when every server answers or `stop` is set.

    Raises:
        ServerError: where a server ends before it answers, or takes too long.
    """
    began = time.monotonic()
    waiting, said = list(servers), False
    while waiting and not stop.is_set():
        check_alive(servers, processes)
        waiting = [one for one in waiting if unreachable(f"{one.url}{one.health}", (200,))]
        took = time.monotonic() - began
        if waiting and not said and took > LONG_SECONDS:
            said = True
            progress_display().line(f"rosita: {waiting[0].name} takes long to start")
        if waiting and took > START_SECONDS:
            raise ServerError(
                f"{waiting[0].name} did not answer within {START_SECONDS:.0f} s: "
                f"{last_lines(waiting[0].log)}"
            )
        if waiting:
            stop.wait(POLL_SECONDS)


def watch(
    servers: Sequence[Server],
    processes: Mapping[str, subprocess.Popen[bytes]],
    stop: threading.Event,
) -> None:
    """Return when `stop` is set.

    Raises:
        ServerError: where a server ends before that.
    """
    while not stop.wait(POLL_SECONDS):
        check_alive(servers, processes)


def check_alive(
    servers: Sequence[Server], processes: Mapping[str, subprocess.Popen[bytes]]
) -> None:
    """Raise ServerError, with its last lines, for a server that has ended."""
    for server in servers:
        code = processes[server.name].poll()
        if code is not None:
            how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            said = last_lines(server.log)
            known = [cause for sign, cause in CAUSES.items() if sign in said]
            raise ServerError(
                f"{server.name} ended with {how}; "
                + "".join(f"{cause}; " for cause in known[:1])
                + f"last lines of {server.log}: {said}"
            )


def last_lines(log: Path) -> str:
    """The end of a log, its lines joined by bars."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    said = [line.strip() for line in lines if line.strip()]
    return " | ".join(said[-TAIL_LINES:]) or "(nothing)"


def held(arguments: Sequence[str]) -> tuple[str, ...]:
    """A module and its arguments as a process that ends with this one."""
    return (sys.executable, "-m", HELD, str(os.getpid()), *arguments)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the groups of all processes: asked first, killed after STOP_SECONDS."""
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline and any(_group_lives(process) for process in processes):
        time.sleep(POLL_SECONDS / 5)
    for process in processes:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    # Collects the leader, which would count as a member of its group otherwise.
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if not _group_lives(process):
        return
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return  # It ended in between, which is what was asked for.


def _environment() -> dict[str, str]:
    # Python would look for modules in the working directory first.
    return dict(os.environ) | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
