"""Folders in which something is being made, by a process that may be killed at any moment.

Each has a file beside it that is locked (flock) by the process that works there. The lock ends with
the process, however it ends; a folder that nobody holds is a leftover, and goes when the next one
is made. It is a file because shared filesystems pass on the locks of files alone (NFS 4 does).
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK, WHOLE = "lock", "whole"

REMOVED = "removed-"
"""How the names begin of what is being removed; that is no workspace."""


@contextmanager
def workspace(parent: Path) -> Iterator[Path]:
    """An empty folder below `parent`, removed when the block ends unless it was moved away."""
    for path in parent.glob("*"):
        if not path.name.startswith(REMOVED):
            _remove_if_abandoned(path)
    folder, descriptor = _locked_folder(parent)
    try:
        (folder / WHOLE).mkdir()
        yield folder / WHOLE
    finally:
        # Before the folder goes: NFS keeps a file that is open, and so its folder.
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    while True:
        folder = parent / uuid.uuid4().hex
        folder.mkdir(parents=True)
        with suppress(FileNotFoundError):
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Another process may have found it before it was locked, and removed it.
            if (folder / LOCK).exists():
                return folder, descriptor
            os.close(descriptor)


def _remove_if_abandoned(path: Path) -> None:
    aside = path.with_name(f"{REMOVED}{uuid.uuid4().hex}")
    try:
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        # Just being made, or no workspace, or somebody else's.
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.rename(aside)
    except (BlockingIOError, FileNotFoundError):
        return
    finally:
        os.close(descriptor)
    shutil.rmtree(aside, ignore_errors=True)
