"""Homes that have not been used for a while, and what `rosita gc` finds in them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from command_line import Done, rosita
from typed_command import Home

from flows.maintenance.gc import find_garbage

DAY = 86400.0


def gc(home: Path, *args: str) -> Done:
    return rosita("gc", *args, home=home)


def aged(home: Path, days: float) -> None:
    """Everything in the home as if it had been last used so many days ago."""
    then = time.time() - days * DAY
    for path in home.rglob("*"):
        os.utime(path, (then, then))


def keys(home: Home) -> dict[str, str]:
    return {stage["name"]: stage["key"] for stage in home.summary["stages"]}


def artifacts(home: Home) -> dict[str, str]:
    return {stage["name"]: stage["artifact"] for stage in home.summary["stages"]}


def found(home: Path, days: float = 30, now: float | None = None) -> set[tuple[str, str]]:
    return {(one.kind, one.path.name) for one in find_garbage(home, days, now)}


def all_of(home: Home) -> set[tuple[str, str]]:
    results = {("result", key) for key in keys(home).values()}
    return results | {("artifact", digest) for digest in artifacts(home).values()}
