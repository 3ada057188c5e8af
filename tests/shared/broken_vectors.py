"""Word vectors that can be read at first: the stage that reads them all fails."""

from __future__ import annotations

from pathlib import Path

from flows.recipes.request import FIRST_WORDS

BROKEN_LINE = FIRST_WORDS + 1


def broken_vectors(path: Path) -> Path:
    """A file of vectors whose last line lacks a number; whoever checks a request reads others."""
    path.write_text("the 0.1 0.2\n" * FIRST_WORDS + "film 0.1\n", encoding="utf-8")
    return path
