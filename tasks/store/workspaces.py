"""Folders in which something is being made, by a process that may be killed at any moment.

Each is locked (flock) by the process that works in it. The lock ends with the process, however it
ends; a folder that nobody holds is a leftover, and goes when the next one is made.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    while True:
        folder = parent / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another process may have found it before it was locked, and removed it.
        if folder.exists():
            return folder, descriptor
        os.close(descriptor)


def _remove_if_abandoned(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)
