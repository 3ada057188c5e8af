"""Whether MLflow's own store in a home still has what was recorded in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tasks.cache.documents import RunSummary
from tasks.home import Home
from tasks.host.wording import counted
from tasks.store.json_files import read_file, read_json

ASKED = 500
"""Of so many runs one has to be there; a request of SQLite takes no more values."""


def lost_history(home: Path) -> str | None:
    """What to say where the store of a home has none of the runs that were recorded in it.

    Somebody may have emptied or removed it, or put another in its place, and MLflow begins a new
    one without a word.
    """
    recorded = _recorded(home)
    if not recorded:
        return None
    database = Home(home).mlflow_database
    others = [Home(one).mlflow_database for one in Home(home).journals()[1:]]
    if any(_holds_one_of(one, recorded) is not False for one in others if one.is_file()):
        # Another machine has recorded here; which of the runs are of this store is not known.
        return None
    if not database.is_file():
        found = "is gone"
    elif database.stat().st_size == 0:
        found = "is empty"
    elif _holds_one_of(database, recorded) is not False:
        return None
    else:
        found = "has none of its runs"
    runs = counted(len(recorded), "run")
    return (
        f"{database} {found}, though {runs} of this home had been recorded there: MLflow "
        f"begins a new history. What came of them is in {Home(home).summary('*')}; "
        "a copy of the file can be put back while nothing runs"
    )


def _recorded(home: Path) -> list[str]:
    """MLflow's ids of the runs of a home, the newest first."""
    found: list[tuple[int, str]] = []
    for path in Home(home).summaries():
        try:
            recorded = RunSummary.model_validate(read_json(read_file(path))).recorded_as
            if recorded is not None:
                found.append((path.stat().st_mtime_ns, recorded))
        except (OSError, ValueError):
            continue
    return [run for _, run in sorted(found, reverse=True)]


def _holds_one_of(database: Path, runs: list[str]) -> bool | None:
    """Whether a database has one of some runs; None where that cannot be said."""
    asked = runs[:ASKED]
    query = f"select 1 from runs where run_uuid in ({','.join('?' * len(asked))}) limit 1"
    try:
        # Through a connection that cannot write: MLflow's own would make tables.
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(query, asked).fetchone() is not None
    except sqlite3.OperationalError as error:
        return False if "no such table" in str(error) else None
    except sqlite3.Error:
        # No database at all, which MLflow itself complains of.
        return None
