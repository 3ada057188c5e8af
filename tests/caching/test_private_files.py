"""A home is its user's alone; what is made for others has the user's own modes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.host.private_files import (
    VARIABLE,
    make_folder,
    make_private,
    private_files,
    users_files,
    users_mode,
)
from tasks.store.shared_files import SharedFiles


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    assert os.umask(before) == 0o022, "every block gives the umask back"
    assert VARIABLE not in os.environ


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_files_are_private_in_the_block_and_in_its_processes(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys\n"
        "from tasks.host.private_files import private_files, users_mode\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "with private_files():\n"
        "    print(oct(users_mode(0o666)))\n"
    )
    with private_files():
        (tmp_path / "a").touch()
        (tmp_path / "b" / "c").mkdir(parents=True)
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "of-process")],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        with private_files():
            assert users_mode(0o666) == 0o644
        (tmp_path / "after").touch()
    (tmp_path / "outside").touch()
    found = {name: mode(tmp_path / name) for name in ("a", "b", "b/c", "of-process", "after")}
    assert found == {"a": 0o600, "b": 0o700, "b/c": 0o700, "of-process": 0o600, "after": 0o600}
    assert mode(tmp_path / "outside") == 0o644
    # It knows what the user's umask was, whatever its own is.
    assert done.stdout == "0o644\n"


def test_what_is_made_for_others_has_the_users_modes(tmp_path: Path) -> None:
    with private_files():
        with users_files():
            (tmp_path / "a").touch()
        make_folder(tmp_path / "b" / "c")
        (tmp_path / "private").touch()
    assert (mode(tmp_path / "a"), mode(tmp_path / "b/c")) == (0o644, 0o755)
    assert mode(tmp_path / "private") == 0o600


def test_a_shared_folder_is_for_all_machines(tmp_path: Path) -> None:
    local = tmp_path / "local"
    with private_files():
        local.write_text("a")
        files = SharedFiles(f"file://{tmp_path}/shared")
        files.write("results/a.json", b"a")
        files.put(local, "artifacts/b/files/c")
        assert files.create("locks/k/1", b"a")
        files.move("results/a.json", "damaged/a.json")
    found = [tmp_path / "shared", *(tmp_path / "shared").rglob("*")]
    assert {mode(path) for path in found if path.is_dir()} == {0o755}
    assert {mode(path) for path in found if path.is_file()} == {0o644}
    assert mode(local) == 0o600


def test_what_lies_open_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.touch()
    tmp_path.chmod(0o755)
    for place in (tmp_path, path, tmp_path / "missing"):
        make_private(place)
    assert (mode(tmp_path), mode(path)) == (0o700, 0o600)
