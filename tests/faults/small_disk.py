"""A disk that is soon full: a small tmpfs in the place of a folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faulty import remove

BLOCK = 4096


class SmallDisk:
    """The folder on it, and a file of ballast."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, leave: int) -> None:
        """Write until only `leave` bytes are free."""
        with self._ballast.open("ab") as file:
            while (room := shutil.disk_usage(self.folder).free - leave) >= BLOCK:
                file.write(bytes(min(room // BLOCK, 256) * BLOCK))
                file.flush()

    def free(self) -> None:
        """Take the ballast off."""
        self._ballast.unlink()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A file system of its own at `folder`, with what was in it; only root may mount one."""
    aside = folder.with_name(folder.name + ".aside")
    folder.mkdir(parents=True, exist_ok=True)
    folder.rename(aside)
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        remove(aside)
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
