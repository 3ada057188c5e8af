"""What is left in an outbox of which nothing will be sent by itself any more."""

from collections.abc import Iterator
from pathlib import Path

from tasks.home import Home


def old_leftovers(home: str | Path, older_than: float) -> list[Path]:
    """Files and folders of the outbox that may be removed.

    They are what MLflow refused, drafts of killed processes, and states and files without their
    journal. A journal that waits for `rosita sync` is none of them, however old.

    Args:
        older_than: seconds since 1970; what was changed at that time or later is not listed.
    """
    return sorted(path for path in _candidates(Home(home)) if _changed(path) < older_than)


def _candidates(home: Home) -> Iterator[Path]:
    folder = home.outbox
    yield from home.refused.glob("*")
    yield from folder.glob(".*")
    for path in (*folder.glob("[!.]*.json"), *folder.glob("[!.]*.files")):
        if not path.with_suffix(".jsonl").exists():
            yield path


def _changed(path: Path) -> float:
    """When something was added last; what is gone meanwhile is not old."""
    # The files of a refused model belong to the file that names them.
    record = path.with_suffix(".jsonl")
    try:
        times = [one.stat().st_mtime for one in (path, record) if one == path or one.exists()]
    except FileNotFoundError:
        return float("inf")
    return max(times)
