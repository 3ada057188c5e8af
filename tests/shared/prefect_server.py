"""A Prefect server that a test can stop and start again, and flows of the test's own process."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.asyncutils import run_coro_as_sync
from typed_command import environment

from tasks.host.network import unreachable

START_SECONDS = 300
STOP_SECONDS = 60


class PrefectServer:
    """`prefect server start` on loopback."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.api = f"http://127.0.0.1:{port}/api"
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers."""
        self.home.mkdir(exist_ok=True)
        command = [
            *(sys.executable, "-m", "prefect", "server", "start", "--no-ui"),
            *("--host", "127.0.0.1", "--port", str(self._port)),
        ]
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment(self.home, self.home),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while unreachable(f"{self.api}/health", (200,)):
            assert self._process.poll() is None, (self.home / "server.log").read_text()[-3000:]
            assert time.monotonic() < deadline, "Prefect's server does not answer"
            time.sleep(0.1)

    def running(self) -> bool:
        return self._process is not None

    def kill(self) -> None:
        """End it at once, with all its connections."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(STOP_SECONDS)
            self._process = None


@contextmanager
def connected(api: str) -> Iterator[None]:
    """Flows and tasks of this process report to a server, and have told it all at the end."""
    with (
        temporary_settings(updates={PREFECT_API_URL: api}),
        context._temporary_global_settings_context(context.get_settings_context()),
    ):
        yield
        run_coro_as_sync(_tell_the_rest())


async def _tell_the_rest() -> None:
    """As `prefect.testing.utilities.prefect_test_harness` does."""
    for told in (APILogWorker.instance().drain(), EventsWorker.drain_all()):
        if inspect.isawaitable(told):
            await told
