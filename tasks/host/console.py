"""Where results are printed."""

from __future__ import annotations

import os

from rich.console import Console


class _Results(Console):
    """Results on stdout; whoever runs the command decides how it ends without a reader."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Stdout; wide enough for our tables where there is no terminal."""
    return _Results() if os.isatty(1) else _Results(width=120)
