"""`rosita gc`: things of a home that nobody refers to any more. They are listed, then freed."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from flows.maintenance.references import (
    DAY,
    References,
    age,
    all_attempts,
    is_finished,
    is_locked,
    references,
)
from tasks.cache.locks import StageLocks
from tasks.cache.records import makers, record_names
from tasks.home import Home
from tasks.store.artifacts import Store, is_digest
from tasks.store.removal import REMOVED, delete, remove

RECORD, ARTIFACT = "result", "artifact"
DAMAGED_COPY, LEFTOVER, CHECKPOINT = "damaged copy", "leftover", "checkpoint"
KINDS = (RECORD, ARTIFACT, DAMAGED_COPY, LEFTOVER, CHECKPOINT)


@dataclass(frozen=True)
class Garbage:
    """Something that can be freed.

    Attributes:
        kind: "result", "artifact", "damaged copy", "leftover" or "checkpoint".
        name: its stage where that is known, and the start of its name.
        path: the file or folder.
        size: in bytes.
        last_used: seconds since 1970.
        key: the stage key whose lock guards it, or None.
    """

    kind: str
    name: str
    path: Path
    size: int
    last_used: float
    key: str | None = None


def find_garbage(home: Path, days: float, now: float | None = None) -> tuple[Garbage, ...]:
    """What can be freed; nothing is changed.

    Args:
        days: how long something has to have been out of use.
        now: seconds since 1970; the clock's time where it is not given.
    """
    moment = time.time() if now is None else now
    referred = references(home, days, moment)
    found_records = _records(home, referred, days, moment)
    records = tuple(one for one in found_records if not _is_locked(home, one))
    freed = {garbage.path.name for garbage in records}
    found = (
        *records,
        *_artifacts(home, referred, freed, days, moment),
        *_damaged(home, days, moment),
        *_leftovers(home, referred, moment),
        *_checkpoints(home, referred, days, moment),
    )
    unlocked = [garbage for garbage in found if not _is_locked(home, garbage)]
    # The largest of each kind first.
    return tuple(sorted(unlocked, key=lambda one: (KINDS.index(one.kind), -one.size)))


def free(
    garbage: Iterable[Garbage], home: Path, days: float, now: float | None = None
) -> tuple[Garbage, ...]:
    """Free it; returns what was kept because it came into use since it was listed.

    Results go before the artifacts that they name, so that whoever is killed in between leaves
    artifacts without a result, and no result without its artifact.
    """
    # Somebody may have been asked for a yes for minutes.
    fresh = {one.path: one for one in find_garbage(home, days, now)}
    kept: list[Garbage] = []
    needed: set[str] = set()
    for one in sorted(garbage, key=lambda one: one.kind != RECORD):
        names = record_names(one.path) if one.kind == RECORD else None
        still = fresh.get(one.path)
        wanted = one.path.name in needed
        if not one.path.exists():
            # Another gc was faster.
            continue
        if still is None or wanted or not _drop(still, home):
            kept.append(one)
            if names is not None:
                needed.add(names[1])
    return tuple(kept)


def _drop(garbage: Garbage, home: Path) -> bool:
    """Free one thing; False where a stage has taken it meanwhile."""
    if garbage.kind == LEFTOVER and garbage.path.name.startswith(REMOVED):
        delete(garbage.path)
        return True
    if garbage.kind == ARTIFACT and _came_into_use(garbage, home):
        return False
    if garbage.key is None:
        remove(garbage.path, home)
        return True
    locks, holder = StageLocks(Home(home).locks), f"gc-{uuid.uuid4().hex}"
    if not locks.acquire_lock(garbage.key, holder, acquire_timeout=0):
        return False
    try:
        # A run notes its use of a result under this lock.
        used = _modified(garbage.path)
        if garbage.kind == RECORD and used is not None and used != garbage.last_used:
            return False
        remove(garbage.path, home)
        return True
    finally:
        locks.release_lock(garbage.key, holder)


def _came_into_use(artifact: Garbage, home: Path) -> bool:
    """Whether a stage has stored the same content since it was listed, or has a result of it."""
    if _newest(artifact.path) > artifact.last_used:
        return True
    digest = artifact.path.name
    return any(name == digest for name, _ in _named_artifacts(home))


def _named_artifacts(home: Path) -> Iterator[tuple[str, Path]]:
    """The artifacts that results name, with the results."""
    for path in Home(home).results.glob("*"):
        changed = _modified(path) if is_digest(path.name) else None
        names = None if changed is None else _names(path, changed)
        if names is not None:
            yield names[1], path


@lru_cache(maxsize=100_000)
def _names(path: Path, changed: float) -> tuple[str, str] | None:
    """As `record_names`; each record is read once for all artifacts, unless it has changed."""
    return record_names(path)


def _is_locked(home: Path, garbage: Garbage) -> bool:
    return garbage.key is not None and is_locked(home, garbage.key)


def _records(home: Path, referred: References, days: float, now: float) -> Iterator[Garbage]:
    for path in sorted(Home(home).results.glob("*")):
        if not is_digest(path.name) or path.name in referred.keys:
            continue
        names = record_names(path)
        stage, artifact = names if names is not None else ("?", None)
        if artifact in referred.artifacts:
            # A running stage reads what this result names.
            continue
        used = _modified(path)
        if used is not None and not referred.used_since(used) and age(used, now) >= days * DAY:
            yield Garbage(RECORD, _named(stage, path.name), path, size_of(path), used, path.name)


def _artifacts(
    home: Path, referred: References, freed: set[str], days: float, now: float
) -> Iterator[Garbage]:
    named = set(referred.artifacts)
    last: dict[str, float] = {}
    for artifact, path in _named_artifacts(home):
        if path.name not in freed:
            named.add(artifact)
        last[artifact] = max(last.get(artifact, 0.0), _modified(path) or 0.0)
    store = Store(home)
    for digest in store.digests():
        if digest in named:
            continue
        folder = store.path(digest).parent
        # A stage stores its artifact before its result is written.
        used = max(_newest(folder), last.get(digest, 0.0))
        if referred.used_since(used) or age(used, now) < days * DAY:
            continue
        stages = sorted({note["stage"] for note in makers(home, digest).values()})
        name = _named(", ".join(stages) or "?", digest)
        yield Garbage(ARTIFACT, name, folder, size_of(folder), used)


def _damaged(home: Path, days: float, now: float) -> Iterator[Garbage]:
    for folder in (Home(home).damaged_artifacts, Home(home).damaged_results):
        for path in sorted(folder.glob("*")):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            # Moving it aside changed nothing but the time of its last change of name.
            used = max(found.st_mtime, found.st_ctime)
            if age(used, now) >= days * DAY:
                yield Garbage(DAMAGED_COPY, path.name[:12], path, size_of(path), used)


def _leftovers(home: Path, referred: References, now: float) -> Iterator[Garbage]:
    for folder in (Home(home).unfinished_artifacts, Home(home).scratch, Home(home).results):
        for path in sorted(folder.glob("*")):
            if folder == Home(home).results and (path.is_dir() or is_digest(path.name)):
                # Others there are the errors of failed stages, which Prefect leaves.
                continue
            used = _newest(path)
            recent = referred.used_since(used) or age(used, now) < DAY
            if not path.name.startswith(REMOVED) and recent:
                # It may be the workspace of a stage that runs.
                continue
            yield Garbage(LEFTOVER, path.name[:20], path, size_of(path), used)


def _checkpoints(home: Path, referred: References, days: float, now: float) -> Iterator[Garbage]:
    folders = sorted(Home(home).checkpoints.glob("*"))
    records = all_attempts(home) if folders else []
    for path in folders:
        used = _newest(path)
        completed = is_finished(home, path.name, records)
        old = age(used, now) >= days * DAY
        running = path.name in referred.keys and not completed
        if (completed or old) and not running:
            key = path.name if is_digest(path.name) else None
            yield Garbage(CHECKPOINT, path.name[:12], path, size_of(path), used, key)


def _named(stage: str, name: str) -> str:
    return f"{stage} {name[:12]}"


def _inside(path: Path) -> Iterator[Path]:
    yield path
    # Unlike `rglob` it does not mind folders that vanish meanwhile.
    for folder, folders, files in os.walk(path):
        yield from (Path(folder, name) for name in (*folders, *files))


def _modified(path: Path) -> float | None:
    """When a file was last written or used; None where it has vanished."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _newest(path: Path) -> float:
    """When something below the path was last written. What vanishes meanwhile does not count."""
    times = []
    for one in _inside(path):
        try:
            times.append(one.lstat().st_mtime)
        except FileNotFoundError:
            continue
    return max(times, default=0.0)


def size_of(path: Path) -> int:
    """Bytes of the files below a path. What vanishes meanwhile does not count."""
    total = 0
    for one in _inside(path):
        try:
            total += one.lstat().st_size if not one.is_dir() else 0
        except FileNotFoundError:
            continue
    return total


def as_document(
    garbage: tuple[Garbage, ...],
    kept: tuple[Garbage, ...],
    home: Path,
    days: float,
    dry_run: bool,
) -> dict[str, Any]:
    """The list as JSON-able values."""
    gone = [] if dry_run else [one for one in garbage if one not in kept]
    return {
        "home": str(home),
        "older_than_days": days,
        "dry_run": dry_run,
        "items": [
            {
                "kind": one.kind,
                "name": one.name,
                "path": str(one.path.relative_to(home)),
                "bytes": one.size,
                "last_used": datetime.fromtimestamp(one.last_used, UTC).isoformat("T", "seconds"),
                "freed": one in gone,
            }
            for one in garbage
        ],
        "bytes": sum(one.size for one in garbage),
        "bytes_freed": sum(one.size for one in gone),
    }
