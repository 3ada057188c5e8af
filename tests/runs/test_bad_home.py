"""A place where nothing can be written is refused before any compute."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import rosita
from refusals import refused
from typed_command import Home


def test_home_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    home = tmp_path / "file" / "home"
    said = refused(home, "--recipe", "smoke")
    assert said == f"ROSITA_HOME must be a directory that can be written, got {home}"
    assert (tmp_path / "file").read_text() == "in the way"


def test_home_that_is_a_file(tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.write_text("in the way")
    done = rosita("compress", "--recipe", "smoke", home=home)
    assert done.code == 2
    assert (
        done.stderr == f"rosita: ROSITA_HOME must be a directory that can be written, got {home}\n"
    )


@pytest.mark.parametrize("command", ["runs", "plan", "gc"])
def test_a_file_is_no_home_that_can_be_looked_at(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("in the way")
    arguments = ("--recipe", "smoke") if command == "plan" else ()
    for home in (tmp_path / "file", tmp_path / "file" / "home"):
        done = rosita(command, *arguments, home=home)
        said = f"rosita: ROSITA_HOME must be a directory that can be written, got {home}\n"
        assert (done.code, done.stdout, done.stderr) == (2, "", said)


def test_an_address_of_prefect_without_a_scheme(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", tmp_path / "prefect", {})
    for command in ("plan", "compress"):
        done = home.run(command, "--recipe", "smoke", env={"PREFECT_API_URL": "me:hush@foo"})
        assert (done.returncode, done.stdout) == (2, "")
        assert "PREFECT_API_URL must begin with http:// or https://, got foo\n" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or not Path("/proc/mounts").exists():
        pytest.skip("mounting a small filesystem needs root on Linux")
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "rosita-test", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_too_little_disk(small_disk: Path) -> None:
    home = small_disk / "home"
    said = refused(home, "--recipe", "smoke")
    assert said == (
        f"ROSITA_HOME must have at least 21 MB free for five models, got 4 MB in {home}"
    )
    assert rosita("plan", "--recipe", "smoke", home=home).code == 0
    assert list(small_disk.iterdir()) == []


def test_home_on_a_filesystem_that_is_read_only(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    said = refused(small_disk / "home", "--recipe", "smoke")
    assert said.startswith("ROSITA_HOME must be a directory that can be written, got ")


def test_plan_and_explain_look_at_a_home_that_only_others_may_write(
    small_disk: Path, smoke_home: Home
) -> None:
    home = small_disk / "home"
    for name in ("results", "attempts"):
        shutil.copytree(smoke_home.home / name, home / name)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for command in (("plan",), ("explain", "data")):
        done = rosita(*command, "--recipe", "smoke", home=home)
        assert (done.code, done.stderr) == (0, "")
        # Its artifacts are not here.
        assert "the artifact is missing" in " ".join(done.stdout.split())
