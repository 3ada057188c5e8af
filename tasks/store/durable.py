"""Waiting until what was written would survive a loss of power."""

import os
from pathlib import Path


def to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of its files, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tree_to_disk(folder: Path) -> None:
    """`to_disk` for a folder and every file and folder below it."""
    for path in (*folder.rglob("*"), folder):
        to_disk(path)
