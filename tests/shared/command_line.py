"""The command line inside the test's process: what a user types, without 5 s of imports each."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.cli import main


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """Its JSON."""
        document: dict[str, Any] = json.loads(self.stdout)
        return document


def rosita(*args: str, home: Path) -> Done:
    """Run `rosita ARGS` in `home` through the entry point of the command."""
    out, err = io.StringIO(), io.StringIO()
    with _place(home), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sys.argv = ["rosita", *args]
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 0
    return Done(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _place(home: Path) -> Iterator[None]:
    argv, path, variables = sys.argv, list(sys.path), dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ["ROSITA_HOME"] = str(home)
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name in ("ROSITA_HOME", "MLFLOW_TRACKING_URI", "PREFECT_HOME"):
            os.environ.pop(name, None)
            if name in variables:
                os.environ[name] = variables[name]


def recipe_file(folder: Path, values: Mapping[str, Any]) -> str:
    """A recipe as a YAML file in `folder`; returns its path."""
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
    return str(path)


def csv_file(path: Path, header: str, rows: list[str]) -> str:
    """A CSV file; returns its path."""
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)
