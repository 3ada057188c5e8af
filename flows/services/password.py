"""The password of a Prefect server that somebody here takes runs from: a worker, or a schedule."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from tasks.home import Home
from tasks.host.network import unreachable
from tasks.host.redaction import redacted
from tasks.host.terminal import progress_display
from tasks.store.json_files import write_whole

VARIABLE = "PREFECT_API_AUTH_STRING"
"""Where Prefect's clients find it."""
NAME = "rosita"
BYTES = 24


def server_password(home: Path) -> str:
    """`name:password` of a home, made when it is first asked for.

    Raises:
        ValueError: where its file holds something else.
    """
    path = Home(home).prefect_password
    if not path.exists():
        write_whole(path, f"{NAME}:{secrets.token_urlsafe(BYTES)}\n".encode())
    found = path.read_text(encoding="utf-8").strip()
    if not all(found.partition(":")):
        raise ValueError(f"password must be name:password in {path}; remove the file for a new one")
    return found


def use_server_password(home: Path) -> str:
    """The same; this process and what it starts use it from here on."""
    os.environ[VARIABLE] = password = server_password(home)
    return password


def say_if_open(api: str) -> None:
    """Tell whoever takes runs from a server that asks nobody for a password."""
    if unreachable(f"{api.rstrip('/')}/admin/version", (200,)) is None:
        progress_display().line(
            f"rosita: Prefect's server at {redacted(api)} asks nobody for a password, so whoever "
            "reaches it can start commands here; `rosita ui --worker` has one of its own"
        )
