"""Removing things from a home so that a reader, or a second remover, never sees half of one."""

import os
import shutil
import uuid
from pathlib import Path

from tasks.home import Home
from tasks.store.workspaces import REMOVED

__all__ = ["REMOVED", "delete", "remove", "set_aside"]


def remove(path: Path, home: Path) -> None:
    """Move a file or folder of the home out of its place, then delete it.

    What a killed process leaves is below `<home>/store/tmp` under a name that says so. Something
    that is gone already is no error.
    """
    aside = Home(home).unfinished_artifacts / f"{REMOVED}{uuid.uuid4().hex}"
    aside.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    delete(aside)


def set_aside(path: Path, target: Path) -> Path | None:
    """Move a file or folder to `<target>-<n>`, the first that is free; None when it is gone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        number += 1
        free = target.with_name(f"{target.name}-{number}")
        if free.exists():
            continue
        try:
            return path.rename(free)
        except FileNotFoundError:
            return None
        except OSError:
            # Lost a race for this number; a failure of another kind shows no target.
            if not free.exists():
                raise


def delete(path: Path) -> None:
    """Delete a file or folder, also one whose folders are read-only.

    Another process may delete the same at the same time.
    """
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    while path.is_dir():
        try:
            path.chmod(path.stat().st_mode | 0o700)
            for folder, names, _ in os.walk(path):
                for inner in (Path(folder, name) for name in names):
                    if not inner.is_symlink():
                        inner.chmod(inner.stat().st_mode | 0o700)
            shutil.rmtree(path)
        except FileNotFoundError:
            continue
