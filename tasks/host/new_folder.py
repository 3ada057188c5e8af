"""Places that a command writes for its user: a folder, whole or not at all, or a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.host.private_files import make_folder, users_files, users_mode


@contextmanager
def new_folder(target: Path, field: str) -> Iterator[Path]:
    """A place to make a folder in, which takes the name `target` when the block has ended well.

    Args:
        target: a directory that is new or empty; it belongs to the user, who may change it.
        field: what messages call it.

    Raises:
        ValueError: where `target` exists and is no empty directory, or cannot be written.
    """
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ValueError(f"{field} must be a directory that is new or empty, got {target}")
        make_folder(target.parent)
        beside = tempfile.TemporaryDirectory(dir=target.parent, prefix=".rosita-")
        with users_files(), beside as folder:
            whole = Path(folder) / "whole"
            yield whole
            whole.chmod(users_mode(0o777))
            whole.rename(target)
    except OSError as error:
        # What the block reads may be missing as well.
        if error.filename and not Path(os.fsdecode(error.filename)).is_relative_to(target.parent):
            raise
        raise ValueError(
            f"{field} must be a place that can be written, got {target}: {error.strerror}"
        ) from None


def check_new_file(path: Path, field: str) -> None:
    """Refuse a place for a file that cannot be written, before anything is computed for it.

    Raises:
        ValueError: naming what is wrong; an existing file is fine, and will be replaced.
    """
    try:
        if path.is_dir():
            raise ValueError(f"{field} must be a file, got the directory {path}")
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
    except OSError as error:
        raise ValueError(
            f"{field} must be in a folder that can be written, got {path}: {error.strerror}"
        ) from None
