"""Prefect's server of a command that runs flows: the user's, or one that ends with the command."""

from __future__ import annotations

import atexit
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.services.password import use_server_password
from flows.services.servers import (
    POLL_SECONDS,
    Server,
    ServerError,
    free_port,
    prefect_server,
    running,
    wait_until_ready,
)
from tasks.home import Home
from tasks.host.environment import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_PROFILES,
    PREFECT_UI_URL,
)
from tasks.host.network import unreachable
from tasks.host.redaction import redacted

DATABASE = "prefect.db"
REACH_SECONDS = 20.0
"""For a server that somebody else runs, and that may be starting or busy."""


def reachable_api(home: Path, of_a_run: bool = True) -> str:
    """The address of the user's Prefect server; where there is none, of one that is started here.

    Prefect's own temporary server outlives a run that is killed, and Ctrl-C at a terminal ends it
    before the stages have saved. This one stops when this process ends, after what Prefect sends.

    Args:
        home: whose server it is.
        of_a_run: see `prefect_server`.

    Raises:
        ServerError: where it does not answer, or does not start.
    """
    # Here, because it takes seconds to import, which `rosita ui` does without.
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    global _begun
    begun, _begun = _begun, None
    if url := get_current_settings().api.url:
        if begun is not None:
            begun.ending.close()
        _check_reachable(url)
        return url
    begun = begun or _begin(home, of_a_run)
    wait_until_ready([begun.server], begun.processes, threading.Event())
    # Of the process and not of a context: Prefect's own threads are to find it, too.
    api = os.environ[PREFECT_API_URL] = f"{begun.server.url}/api"
    if get_current_settings().ui_url is None:
        # It has no pages, and Prefect would make their address of the API's.
        os.environ[PREFECT_UI_URL] = ""
    refresh_global_settings_context()
    return api


@dataclass(frozen=True)
class _Begun:
    """A server that starts, and that ends with this process or with `ending`."""

    server: Server
    processes: Mapping[str, subprocess.Popen[bytes]]
    ending: ExitStack


_begun: _Begun | None = None
"""The server that starts while a request is checked."""


def begin_api(home: Path) -> None:
    """Let the server that `reachable_api` would start for runs begin, and do not wait for it.

    Only where there was one before: a request that is refused must leave nothing behind. What is
    wrong with the home is said by whoever checks the request.
    """
    global _begun
    place = os.environ.get(PREFECT_HOME)
    if _begun is not None or os.environ.get(PREFECT_API_URL) or not place:
        return
    with suppress(OSError):
        before = home.is_dir() and (Path(place).expanduser() / DATABASE).is_file()
        if before and not _profile_names_one(Path(place)):
            _begun = _begin(home, of_a_run=True)


def _profile_names_one(place: Path) -> bool:
    """Whether a profile of the user's names a server.

    Without a profile, Prefect is not imported to learn it: the server starts a second sooner. What
    else may name one is heeded by `reachable_api`.
    """
    profiles = Path(os.environ.get(PREFECT_PROFILES) or place / "profiles.toml")
    if not profiles.expanduser().is_file():
        return False
    from prefect.settings import get_current_settings

    return bool(get_current_settings().api.url)


def _begin(home: Path, of_a_run: bool) -> _Begun:
    """Start a server that stops when this process ends."""
    stack, scratch = ExitStack(), Home(home).scratch
    scratch.mkdir(parents=True, exist_ok=True)
    logs = Path(stack.enter_context(TemporaryDirectory(prefix="prefect-", dir=scratch)))
    # What serves a schedule starts whatever run its server is asked for, as a worker does.
    password = None if of_a_run else use_server_password(home)
    server = prefect_server(free_port(), logs, password, of_a_run)
    processes = stack.enter_context(running([server]))
    atexit.register(stack.close)
    return _Begun(server, processes, stack)


def _check_reachable(url: str) -> None:
    deadline = time.monotonic() + REACH_SECONDS
    # A server that wants to know who asks is there.
    while problem := unreachable(f"{url.rstrip('/')}/health", (200, 401, 403)):
        if time.monotonic() > deadline:
            raise ServerError(f"Prefect's server at {redacted(url)} does not answer: {problem}")
        time.sleep(POLL_SECONDS)
