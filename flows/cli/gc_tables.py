"""What `rosita gc` can free and has freed, for people, on stdout."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table
from rich.text import Text

from flows.maintenance.gc import Garbage
from tasks.host.console import console
from tasks.host.wording import counted, size


def show_garbage(garbage: tuple[Garbage, ...], home: Path, days: float) -> None:
    """What can be freed, with its sizes and a total."""
    out = console()
    if not garbage:
        out.print(Text(f"nothing to free in {home}: all of it was used within {days:g} days"))
        return
    table = Table(title=f"not in use for {days:g} days, or left behind", title_justify="left")
    for name in ("kind", "name"):
        table.add_column(name, overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("last used (UTC)", no_wrap=True)
    for one in garbage:
        used = f"{datetime.fromtimestamp(one.last_used, UTC):%Y-%m-%d %H:%M}"
        table.add_row(one.kind, Text(one.name), size(one.size), used)
    out.print(table)
    out.print(Text(f"{counted(len(garbage), 'item')}, {size(_total(garbage))} in {home}"))


def show_freed(garbage: tuple[Garbage, ...], kept: tuple[Garbage, ...], dry_run: bool) -> None:
    """What became of it."""
    out = console()
    if dry_run:
        out.print("Nothing was freed.")
        return
    gone = tuple(one for one in garbage if one not in kept)
    out.print(Text(f"Freed {size(_total(gone))}."))
    if kept:
        names = ", ".join(one.name for one in kept)
        out.print(Text(f"Kept {counted(len(kept), 'item')}, in use again: {names}"))


def _total(garbage: tuple[Garbage, ...]) -> int:
    return sum(one.size for one in garbage)
