"""`rosita` in a process of its own that begins with the libraries imported.

They are most of what a command does before its work. The process is forked from one that has
imported them and nothing of the project; what it runs is the entry point of the installed script.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SHARED = Path(__file__).parent
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["libraries"])


class Forked:
    """A command that runs, with the part of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        args: Sequence[str],
        variables: Mapping[str, str],
        stdout: Path,
        stderr: Path,
        stdin: str = "",
    ) -> None:
        for path in (stdout, stderr):
            path.write_bytes(b"")
        given = (list(args), dict(variables), str(stdout), str(stderr), stdin)
        self._process = FORKS.Process(target=_rosita, args=given)
        with server_environment():
            self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Its exit code; a command that takes longer is an error."""
        self._process.join(timeout)
        code = self._process.exitcode
        assert code is not None, f"the command still runs after {timeout} s"
        return code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


@contextmanager
def server_environment() -> Iterator[None]:
    """What the server needs to find `libraries`, if this is the command that starts it."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "OMP_NUM_THREADS")}
    path = os.pathsep.join(filter(None, [str(SHARED), before["PYTHONPATH"]]))
    os.environ |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _rosita(
    args: list[str], variables: dict[str, str], stdout: str, stderr: str, stdin: str
) -> None:
    """Become the command."""
    os.environ.clear()
    os.environ.update(variables)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _redirect(stdout, stderr, stdin)
    _find_modules_by(variables.get("PYTHONPATH", "").split(os.pathsep))
    _read_settings_again()
    sys.argv = ["rosita", *args]
    from flows.cli import main

    _with_an_end(main)


def _redirect(stdout: str, stderr: str, stdin: str) -> None:
    reading, writing = os.pipe()
    os.write(writing, stdin.encode())
    os.close(writing)
    os.dup2(reading, 0)
    for path, number in ((stdout, 1), (stderr, 2)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)


def _find_modules_by(path: list[str]) -> None:
    """Search as a new interpreter would, and run the file of faults as it would."""
    installed = [place for place in sys.path if place.startswith((sys.prefix, sys.base_prefix))]
    sys.path[:] = [*filter(None, path), *installed]
    for place in path:
        faults = Path(place) / "sitecustomize.py"
        if faults.is_file():
            runpy.run_path(str(faults))


def _read_settings_again() -> None:
    """Prefect read the variables of the server when it was imported."""
    from prefect import context

    context.refresh_global_settings_context()


def _with_an_end(main: Callable[[], None]) -> None:
    """Run it, and what an interpreter does at its end, which a forked process leaves out."""
    code: object = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.stdout.flush()
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)
