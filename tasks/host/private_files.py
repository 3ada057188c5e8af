"""Files that are their user's alone: a home holds texts, labels, models and databases.

Whatever a command makes is private (0700, 0600), whichever library makes it. What it makes for
others, such as predictions or a shared folder, has the modes that the user's own umask gives.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE = 0o077
VARIABLE = "ROSITA_UMASK"
"""The user's umask, while files are private; processes that are started then find it here."""


@contextmanager
def private_files() -> Iterator[None]:
    """What the block makes, here and in processes that it starts, is the user's alone."""
    before = os.umask(PRIVATE)
    outermost = VARIABLE not in os.environ
    if outermost:
        os.environ[VARIABLE] = f"{before:03o}"
    try:
        yield
    finally:
        os.umask(before)
        if outermost:
            del os.environ[VARIABLE]


@contextmanager
def users_files() -> Iterator[None]:
    """What the block makes may be read by whom the user lets read. For a process of one thread."""
    before = os.umask(_users_umask())
    try:
        yield
    finally:
        os.umask(before)


def users_mode(mode: int) -> int:
    """The mode of a file (0o666) or a folder (0o777) that the user would make."""
    return mode & ~_users_umask()


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, for whom the user lets read."""
    for folder in reversed((path, *path.parents)):
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            folder.chmod(users_mode(0o777))


def make_private(path: Path) -> None:
    """Take a file or folder of the user's from everybody else, where it is there."""
    if path.exists():
        found = path.stat()
        if found.st_uid == os.geteuid() and found.st_mode & PRIVATE:
            path.chmod(found.st_mode & ~PRIVATE)


def _users_umask() -> int:
    if VARIABLE in os.environ:
        return int(os.environ[VARIABLE], 8)
    # There is no other way to ask.
    umask = os.umask(PRIVATE)
    os.umask(umask)
    return umask
