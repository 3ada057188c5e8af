"""Where results are printed."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console

VERBATIM: dict[str, Any] = {"markup": False, "emoji": False}
"""Options of a console that prints names of users as they are: `[neg]` is a class, and no style."""


class _Results(Console):
    """Results on stdout; whoever runs the command decides how it ends without a reader."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Stdout; wide enough for our tables where there is no terminal."""
    return _Results(**VERBATIM) if os.isatty(1) else _Results(width=120, **VERBATIM)
