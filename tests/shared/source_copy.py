"""A copy of the project's packages whose source a test may edit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PACKAGES = ("rosita_core", "tasks", "flows")


class SourceCopy:
    """The packages in `folder`, for commands that are started with `env`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for package in PACKAGES:
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PROJECT / package, folder / package, ignore=ignore)

    def path(self) -> str:
        """The search path on which the copies come first."""
        return os.pathsep.join(filter(None, [str(self.folder), os.environ.get("PYTHONPATH")]))

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text that the file must hold once."""
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{file} must hold {old!r} once"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def write(self, file: str, text: str) -> None:
        """Add a file."""
        (self.folder / file).write_text(text, encoding="utf-8")

    def append(self, file: str, text: str) -> None:
        """Add lines at the end of a file."""
        with (self.folder / file).open("a", encoding="utf-8") as opened:
            opened.write(text)
