"""A model copied out of the store, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tasks.host.private_files import make_folder, users_files, users_mode


def copy_model(source: Path, target: Path) -> None:
    """Copy a checkpoint directory; the copy belongs to the user, who may change it.

    Raises:
        ValueError: where `target` exists and is no empty directory, or cannot be written.
    """
    try:
        taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
        if taken:
            raise ValueError(f"folder must be a directory that is new or empty, got {target}")
        make_folder(target.parent)
        place = tempfile.TemporaryDirectory(dir=target.parent, prefix=".rosita-")
        with users_files(), place as folder:
            # Not with its permissions: the store's files are read-only.
            whole = shutil.copytree(source, Path(folder) / "model", copy_function=shutil.copyfile)
            whole.chmod(users_mode(0o777))
            whole.rename(target)
    except OSError as error:
        raise ValueError(
            f"folder must be a place that can be written, got {target}: {error.strerror}"
        ) from None


def size_of(folder: Path) -> int:
    """Bytes of all files in a directory."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
