"""`rosita ui` as a process, from the moment that it has printed its addresses."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from typed_command import ROSITA, Home, environment

START_SECONDS = 150
STOP_SECONDS = 12


@dataclass(frozen=True)
class Serving:
    """Running servers.

    Attributes:
        process: of `rosita ui`.
        ports: by name.
        printed: what it said on stdout until it was ready.
    """

    process: subprocess.Popen[str]
    ports: dict[str, int]
    printed: str

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def is_free(port: int) -> bool:
    """Whether a server could take the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def serving(home: Home, *options: str) -> Iterator[Serving]:
    """`rosita ui` over `home`, ended with the block if it has not ended by itself."""
    prefect, mlflow = free_ports(2)
    ports = {"prefect": prefect, "mlflow": mlflow}
    process = subprocess.Popen(
        [
            *(str(ROSITA), "ui", "--prefect-port", str(prefect), "--mlflow-port", str(mlflow)),
            *options,
        ],
        env=environment(home.home, home.prefect),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        printed = ""
        assert process.stdout is not None
        for line in process.stdout:
            printed += line
            if re.search("Ctrl-C stops", line):
                break
        else:
            raise AssertionError(f"rosita ui ended before it was ready: {printed}")
        watchdog.cancel()
        yield Serving(process, ports, printed)
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STOP_SECONDS)
