"""Where results are printed."""

from __future__ import annotations

import os

from rich.console import Console


def console() -> Console:
    """Stdout; wide enough for our tables where there is no terminal."""
    return Console() if os.isatty(1) else Console(width=120)
