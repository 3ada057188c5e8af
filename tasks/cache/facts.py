"""What was found out about this machine and about files, and stays true while they are the same.

A fact lies in the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`), sealed, with everything
that it depends on. It is taken where all of that is the same, to the letter; else, or where
anything is wrong with it, it is found out again. Commands that do nothing but look go by facts.
Whoever computes asks anew, so that no result and no key hangs on them; but for facts that decide
no more than a refusal or a sentence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.cache.source_closure import source_closure
from tasks.cache.stage_key import library_versions
from tasks.host.put_off import looking
from tasks.store.json_files import (
    canonical_json,
    json_digest,
    read_file,
    sealed,
    unsealed,
    write_whole,
)

MOST = 64
"""Facts that are kept; the oldest go."""


def fact(
    name: str,
    depends_on: Callable[[], Mapping[str, Any] | None],
    find_out: Callable[[], Any],
    harmless: bool = False,
) -> Any:
    """What `find_out` says, or said when everything that it depends on was the same.

    Args:
        name: of the fact: letters and hyphens.
        depends_on: gives everything that decides it, JSON-able; None where that is not known.
        find_out: gives a JSON-able value; what it raises is not kept.
        harmless: whether no result and no key hangs on it; then whoever computes takes it, too.
    """
    known = depends_on() if harmless or looking() else None
    if known is None:
        return find_out()
    # As it comes back from a file: tuples are lists.
    asked = json.loads(canonical_json([name, dict(known)]))
    path = _folder() / f"{name}-{json_digest(asked)}.json"
    with suppress(OSError, ValueError):
        found = unsealed(read_file(path))
        if isinstance(found, list) and len(found) == 2 and found[0] == asked:
            return found[1]
    value = find_out()
    # A folder that cannot be written makes commands slower, and nothing else.
    with suppress(OSError):
        if _folder().parent.parent.is_dir():
            write_whole(path, sealed([asked, value]))
            _forget_old()
    return value


def _folder() -> Path:
    """In the user's cache folder."""
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path("~/.cache").expanduser()) / "rosita"


def _forget_old() -> None:
    paths = sorted(_folder().glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    for path in paths[:-MOST]:
        path.unlink(missing_ok=True)


def code_and_libraries(*modules: str) -> dict[str, Any]:
    """What a fact depends on that these modules find out: their code and that which it uses."""
    closure = source_closure(modules)
    return {"source": closure.modules, "libraries": library_versions(closure.packages)}
