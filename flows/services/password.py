"""The password of the Prefect server that a home's worker takes runs from."""

from __future__ import annotations

import secrets
from pathlib import Path

from tasks.home import Home
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
