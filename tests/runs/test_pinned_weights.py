"""The demo's model has the weights that are meant, from wherever they come, or is refused."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from model_hub import model_hub
from source_copy import PROJECT
from typed_command import ROSITA, environment

from rosita_core.model.locate import MODELS, WEIGHTS, locate

NAME = "minilm-l6"
PINNED = MODELS[NAME]
assert PINNED.hub is not None and PINNED.package is not None
OTHER = b"other weights"
OTHERS_DIGEST = hashlib.sha256(OTHER).hexdigest()
LOCATE = f"from rosita_core.model.locate import locate; print(locate({NAME!r}))"


def files_of_the_package() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in locate(NAME).iterdir() if path.is_file()}


@pytest.fixture
def without_package(tmp_path: Path) -> dict[str, str]:
    """Variables of a process that finds no package, and a cache of the hub that is empty."""
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / "sitecustomize.py").write_text(f"import sys\nsys.modules[{PINNED.package!r}] = None")
    return {
        "PYTHONPATH": os.pathsep.join([str(hiding), str(PROJECT)]),
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "0",
    }


def run(command: list[str], home: Path, variables: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(
        command,
        env=environment(home, home / "prefect", variables),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def refused(command: str, home: Path, variables: dict[str, str]) -> str:
    """The one line that a command on the demo ends with, before it has computed anything."""
    code, said, error = run([str(ROSITA), command, "--recipe", "demo"], home, variables)
    assert (code, said) == (2, ""), error
    assert not list(home.glob("attempts/*")) and not list(home.glob("runs/*"))
    line = error.splitlines()[-1]
    assert error.count("rosita: ") == 1 and line.startswith("rosita: teacher.model ")
    return line


def test_it_comes_from_the_hub_where_no_package_is(
    tmp_path: Path, without_package: dict[str, str]
) -> None:
    python = [sys.executable, "-c", LOCATE]
    with model_hub({PINNED.hub: files_of_the_package()}) as hub:
        code, said, error = run(python, tmp_path, {**without_package, "HF_ENDPOINT": hub.url})
    assert code == 0, error
    weights = Path(said.strip()) / WEIGHTS
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == PINNED.sha256
    assert tmp_path in weights.parents
    # Nobody is there to be asked any more.
    assert run(python, tmp_path, {**without_package, "HF_ENDPOINT": hub.url})[:2] == (0, said)
    weights.resolve().write_bytes(OTHER)
    offline = {**without_package, "HF_HUB_OFFLINE": "1"}
    assert OTHERS_DIGEST in refused("plan", tmp_path / "home", offline)


def test_other_weights_of_the_hub_are_refused(
    tmp_path: Path, without_package: dict[str, str]
) -> None:
    files = files_of_the_package() | {WEIGHTS: OTHER}
    with model_hub({PINNED.hub: files}) as hub:
        line = refused("compress", tmp_path / "home", {**without_package, "HF_ENDPOINT": hub.url})
    assert f"{WEIGHTS} with sha256 {PINNED.sha256}, got {OTHERS_DIGEST}" in line


def test_other_weights_of_a_package_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "site" / PINNED.package / PINNED.folder
    shutil.copytree(locate(NAME), folder)
    (folder.parent / "__init__.py").touch()
    (folder / WEIGHTS).unlink()
    path = os.pathsep.join([str(tmp_path / "site"), str(PROJECT)])
    line = refused("plan", tmp_path / "home", {"PYTHONPATH": path})
    assert line.endswith(f"sha256 {PINNED.sha256}, got none in {folder}")
    (folder / WEIGHTS).write_bytes(OTHER)
    line = refused("compress", tmp_path / "home", {"PYTHONPATH": path})
    assert line.endswith(f"got {OTHERS_DIGEST} in {folder}")


def test_neither_hub_nor_package(tmp_path: Path, without_package: dict[str, str]) -> None:
    line = refused("compress", tmp_path / "home", {**without_package, "HF_HUB_OFFLINE": "1"})
    assert 'pip install "rosita[demo]"' in line
