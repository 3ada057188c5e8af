"""A Python that sees the standard library and chosen packages, with what these need."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement


def closure_of(*names: str) -> set[str]:
    """Installed distributions that the named ones need, themselves included."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                waiting.append(needed.name)
    return found


def link_site(site: Path, *names: str) -> Path:
    """Fill a folder with links to the packages of the named distributions and what they need."""
    for name in closure_of(*names):
        distribution = importlib.metadata.distribution(name)
        base = Path(str(distribution.locate_file("")))
        for entry in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (site / entry).exists():
                (site / entry).symlink_to(base / entry)
    return site


def run_bare(code: str, args: Sequence[str], home: Path, stdin: str = "") -> tuple[str, str, int]:
    """What a Python without site packages wrote to stdout and stderr, and its exit code."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *args],
        check=False,
        capture_output=True,
        text=True,
        input=stdin,
        cwd=home,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "HF_HOME": str(home / "hf"),
            "HF_MODULES_CACHE": str(home / "modules"),
            "HF_HUB_OFFLINE": "1",
        },
    )
    return done.stdout, done.stderr, done.returncode
