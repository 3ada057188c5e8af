"""A run that cannot start says why on one line and keeps the traceback."""

import subprocess
from collections.abc import Callable
from pathlib import Path


def test_a_store_of_mlflow_that_does_not_exist(
    rosita: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    done = rosita(
        "compress", "--recipe", "smoke", home=home, env={"MLFLOW_TRACKING_URI": "nonsense://x"}
    )
    trace = home / "logs" / "compress.txt"
    assert done.returncode == 1
    assert done.stdout == ""
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("rosita: the run did not start: UnsupportedModelRegistryStoreURI")
    assert said.endswith(f"its traceback is {trace}")
    assert "nonsense://x" in trace.read_text(encoding="utf-8")
    assert not (home / "attempts").exists()
