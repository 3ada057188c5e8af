"""A command imports what it works with and no more: one that only looks answers at once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODELS = ("torch", "transformers.modeling_utils")
STATISTICS = ("scipy", "sklearn")
SERVERS = ("prefect", "mlflow")
TABLES = ("pandas", "pyarrow", "numpy", "datasets")

# Last on stderr, whatever else is there: the exit code, and the modules that the command has used.
TYPED = """
import json, sys
from flows.cli import main

code = 0
try:
    main()
except SystemExit as end:
    code = end.code or 0
# What stands in for a library has no file.
used = [name for name, module in sys.modules.items() if getattr(module, "__file__", None)]
print(json.dumps([code, sorted(used)]), file=sys.stderr)
"""


def imported(home: Path, *args: str, cache: Path | None = None) -> set[str]:
    """The modules that a command has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", TYPED, *args],
        env={**os.environ, "ROSITA_HOME": str(home), "XDG_CACHE_HOME": str(cache or home)},
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
        (("recipes", "--json"), (*MODELS, *STATISTICS, *SERVERS, *TABLES)),
        (("runs",), (*MODELS, *STATISTICS, *SERVERS, *TABLES)),
        (
            ("plan", "--recipe", "smoke"),
            ("transformers.modeling_utils", "datasets", *STATISTICS, *SERVERS),
        ),
    ],
)
def test_a_command_that_only_looks_imports_little(
    tmp_path: Path, args: tuple[str, ...], unwanted: tuple[str, ...]
) -> None:
    home = tmp_path / "home"
    modules = imported(home, *args, cache=tmp_path / "cache")
    assert "flows.cli.app" in modules
    assert modules.isdisjoint(unwanted)
    assert not home.exists()


@pytest.mark.parametrize(
    "args", [("plan", "--recipe", "smoke"), ("explain", "width", "-r", "smoke")]
)
def test_a_plan_of_what_is_known_imports_no_library_that_computes(
    smoke_home: Any, tmp_path: Path, args: tuple[str, ...]
) -> None:
    unwanted = {"torch", "transformers", "tokenizers", "pandas", "huggingface_hub"}
    unwanted |= {*STATISTICS, *SERVERS}
    first = imported(smoke_home.home, *args, cache=tmp_path)
    assert {"torch", "transformers"} <= first
    again = imported(smoke_home.home, *args, cache=tmp_path)
    assert "rosita_core.training.loop" in again
    assert again.isdisjoint(unwanted)
