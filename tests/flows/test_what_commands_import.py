"""A command imports what it works with and no more: one that only looks answers at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODELS = ("torch", "transformers.modeling_utils")
STATISTICS = ("scipy", "sklearn")
SERVERS = ("prefect", "mlflow")
TABLES = ("pandas", "pyarrow")

# Last on stderr, whatever else is there: the exit code, and the modules that the command has used.
TYPED = """
import json, sys
from flows.cli import main

code = 0
try:
    main()
except SystemExit as end:
    code = end.code or 0
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


def imported(home: Path, *args: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", TYPED, *args],
        env={**os.environ, "ROSITA_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr[-2000:]
    return set(modules)


@pytest.mark.parametrize(
    ("args", "unwanted"),
    [
        (("--help",), (*MODELS, *STATISTICS, *SERVERS, *TABLES)),
        (("--version",), (*MODELS, *STATISTICS, *SERVERS, *TABLES)),
        (("recipes",), (*MODELS, *STATISTICS, *SERVERS, *TABLES)),
        (("runs",), (*MODELS, *STATISTICS, *SERVERS, *TABLES)),
        (("plan", "--recipe", "smoke"), ("transformers.modeling_utils", *STATISTICS, *SERVERS)),
    ],
)
def test_a_command_that_only_looks_imports_little(
    tmp_path: Path, args: tuple[str, ...], unwanted: tuple[str, ...]
) -> None:
    modules = imported(tmp_path, *args)
    assert "flows.cli.app" in modules
    assert modules.isdisjoint(unwanted)
