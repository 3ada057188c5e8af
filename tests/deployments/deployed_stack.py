"""Servers, workers and deployments as an operator has them, in a home of the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from typed_command import ROSITA, environment

ROOT = Path(__file__).parents[2]
INJECTED = ROOT / "tests" / "faults" / "injected"
PREFECT = Path(sys.executable).parent / "prefect"
SECONDS = 300
LOST_AFTER = 45
"""A run says each 30 seconds that it lives, the least that Prefect allows."""

SETTINGS = (
    "data.limit_rows=96",
    "checkpoint.every_steps=2",
    "numerics.threads=1",
    "assess.latency_repeats=2",
    "assess.latency_warmup=1",
    "assess.latency_batch_sizes=[1, 32]",
    "assess.latency_tokens=16",
)
"""Something to go on from; and measuring speed is not what is tested."""


def smoke(**changes: Any) -> dict[str, Any]:
    """Parameters of a short run."""
    settings = [*SETTINGS, *changes.pop("settings", ())]
    return {"recipe": "smoke", "settings": settings, "preflight": "no", **changes}


class Worker:
    """`rosita worker` as a process, with what it says in a file."""

    def __init__(
        self, stack: Stack, name: str, faults: list[dict[str, Any]], options: tuple[str, ...] = ()
    ) -> None:
        self.log = stack.home.parent / f"{name}.log"
        # An earlier worker of the same name has written there, too.
        self._begin = self.log.stat().st_size if self.log.exists() else 0
        path = [str(INJECTED), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = {
            "FAULTS": json.dumps(faults),
            "PYTHONPATH": os.pathsep.join(path),
            "PREFECT_API_URL": stack.api,
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(ROSITA), "worker", "--name", name, *options],
                cwd=ROOT,
                env=environment(stack.home, stack.prefect_home, variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def said(self) -> str:
        return self.log.read_bytes()[self._begin :].decode("utf-8")

    def everything(self) -> list[psutil.Process]:
        """It and all that it has started."""
        try:
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """What the loss of a machine does: none of its processes does anything any more."""
        for process in self.everything():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(SECONDS)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


@dataclass(frozen=True)
class Stack:
    """Running servers with everything deployed.

    Attributes:
        home: ROSITA_HOME.
        prefect_home: PREFECT_HOME.
        ports: of the servers, by name.
        process: of `rosita ui`.
    """

    home: Path
    prefect_home: Path
    ports: dict[str, int]
    process: subprocess.Popen[str]

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.ports['prefect']}/api"

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        with (
            temporary_settings({PREFECT_API_URL: self.api}),
            get_client(sync_client=True) as client,
        ):
            yield client

    def prefect(self, *args: str) -> subprocess.CompletedProcess[str]:
        """`prefect ARGS` in the repository's root, as an operator types it."""
        return subprocess.run(
            [str(PREFECT), *args],
            cwd=ROOT,
            env=environment(self.home, self.prefect_home, {"PREFECT_API_URL": self.api}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    @contextmanager
    def worker(
        self, name: str, *faults: dict[str, Any], options: tuple[str, ...] = ()
    ) -> Iterator[Worker]:
        """A worker for the block; it is stopped with it."""
        worker = Worker(self, name, list(faults), options)
        try:
            yield worker
        finally:
            if worker.process.poll() is None:
                worker.stop()

    def run(self, deployment: str, parameters: dict[str, Any], name: str | None = None) -> UUID:
        """Ask for a run, which may be given a name; its id."""
        with self.client() as client:
            found = client.read_deployment_by_name(deployment)
            made = client.create_flow_run_from_deployment(
                found.id, parameters=parameters, name=name
            )
            return made.id

    def flow_run(self, run: UUID) -> FlowRun:
        with self.client() as client:
            return client.read_flow_run(run)

    def states(self, run: UUID) -> list[str]:
        """The names of its states, from the first to the last."""
        with self.client() as client:
            return [str(state.name) for state in client.read_flow_run_states(run)]

    def logs(self, run: UUID) -> str:
        """What its page shows of its log, and of those of its stages."""
        mine = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
        with self.client() as client:
            return "\n".join(log.message for log in client.read_logs(log_filter=mine, limit=200))

    def wait(self, run: UUID, *states: str, seconds: float = SECONDS) -> FlowRun:
        """Wait until a run is in one of these states."""

        def there() -> bool:
            state = self.flow_run(run).state
            return state is not None and state.name in states

        until(there, f"{run} to be {states}", lambda: str(self.states(run)), seconds)
        return self.flow_run(run)

    def summary(self, run: UUID) -> dict[str, Any]:
        """What a run of compress has written."""
        path = self.home / "runs" / str(run) / "summary.json"
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return document


def until(
    moment: Callable[[], bool],
    what: str,
    seen: Callable[[], str] = str,
    seconds: float = SECONDS,
) -> None:
    """Wait for a moment."""
    deadline = time.monotonic() + seconds
    while not moment():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}: {seen()[-4000:]}"
        time.sleep(0.2)


def hold_at(stage: str, call: int, flag: Path) -> dict[str, Any]:
    """A process waits for `flag` when the kernel of `stage` asks for the `call`-th time."""
    return {"do": "hold", "stage": stage, "call": call, "flag": str(flag)}


def is_held(flag: Path) -> bool:
    return flag.with_name(flag.name + ".reached").exists()
