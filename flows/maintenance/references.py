"""Stage keys and artifacts of a home that are in use, so that they must not be freed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.cache.documents import RunSummary
from tasks.cache.locks import StageLocks
from tasks.cache.metric_history import made_here
from tasks.cache.records import attempts, makers, read_record
from tasks.home import Home
from tasks.host.liveness import RUNNING, attempt_state, may_run, process_began
from tasks.store.json_files import read_file, read_json

logger = logging.getLogger(__name__)

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True)
class References:
    """Stage keys and artifacts that something refers to.

    Attributes:
        keys: stage keys of recent runs and of running ones.
        artifacts: digests that they refer to.
        running_since: when the oldest running run began, as seconds since 1970; None where none
            runs. What was used since then may be a run's: it takes stages from the cache, which
            makes no attempt, and needs them later.
    """

    keys: frozenset[str]
    artifacts: frozenset[str]
    running_since: float | None

    def used_since(self, moment: float) -> bool:
        """Whether what was last used at a moment may be what a running run has used."""
        return self.running_since is not None and moment >= self.running_since


def references(home: Path, days: float, now: float) -> References:
    """What recent runs, running stages and runs between two stages refer to.

    Args:
        days: a run is recent if it finished within so many days.
        now: seconds since 1970.
    """
    keys: set[str] = set()
    artifacts: set[str] = set()
    for path in Home(home).summaries():
        if age(path.stat().st_mtime, now) < days * DAY:
            for key, artifact in _stages_of(path):
                keys.add(key)
                artifacts.add(artifact)
    used = _of_running_runs(home, days, now)
    keys.update(record["key"] for record in used)
    artifacts |= _with_ancestors(home, _inputs_and_output(used))
    since = min((_run_began(record) for record in used), default=None)
    return References(frozenset(keys), frozenset(artifacts), since)


def all_attempts(home: Path) -> list[Mapping[str, Any]]:
    """The records of all stages' attempts."""
    folders = sorted(path for path in Home(home).attempts.glob("*") if path.is_dir())
    return [record for folder in folders for record in attempts(home, folder.name)]


def is_finished(home: Path, key: str, records: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the stage of a key is done, so that its checkpoints are of no use.

    It is not while a later attempt computes it again or was stopped doing so, nor where its result
    cannot be read.

    Args:
        records: as of `all_attempts`.
    """
    result, _ = read_record(home, key, None)
    if result is None:
        return False
    tried = [record for record in records if record["key"] == key]
    if made_here(home, result.stage, result.attempt, key):
        later = [one for one in tried if one["number"] > result.attempt]
    else:
        # The number is one of another home, whose result was fetched.
        later = [one for one in tried if _began(one) > _time(result.finished_at)]
    return all(one["status"] == "completed" for one in later)


def is_locked(home: Path, key: str) -> bool:
    """Whether a process computes the stage of this key, or looks at its record."""
    return StageLocks(Home(home).locks).is_locked(key)


def age(moment: float, now: float) -> float:
    """Seconds since a moment; 0 for the future, which a clock that was set back makes of today."""
    return max(0.0, now - moment)


def _of_running_runs(home: Path, days: float, now: float) -> list[Mapping[str, Any]]:
    """The attempts that run, and those that completed in the same runs, however long ago."""
    records = all_attempts(home)
    used = [record for record in records if _is_in_use(home, record, days, now)]
    runs = {record["flow_run_id"] for record in used} - {None}
    before = (r for r in records if r["flow_run_id"] in runs and r["status"] == "completed")
    return used + [record for record in before if record not in used]


def _is_in_use(home: Path, record: Mapping[str, Any], days: float, now: float) -> bool:
    if record["status"] == RUNNING and is_locked(home, record["key"]):
        # Also of a process that seems gone: containers of one name number their own.
        return True
    if may_run(record):
        if attempt_state(record) == RUNNING:
            return True
        # Of another machine, which cannot be asked: for ever would be too long.
        return age(_began(record), now) < max(days, 1) * DAY
    if record["status"] != "completed" or record["flow_run_id"] is None:
        return False
    # A run between two of its stages: it has not ended, and the next stage needs what it has.
    run_id, places = record["flow_run_id"], Home(home)
    ended = places.summary(run_id).is_file() or places.record_error(run_id).is_file()
    return not ended and age(_time(record["finished"]), now) < HOUR


def _inputs_and_output(records: Iterable[Mapping[str, Any]]) -> set[str]:
    found: set[str] = set()
    for record in records:
        found.update(record["components"]["inputs"].values())
        if "result" in record:
            found.add(record["result"]["artifact"])
    return found


def _with_ancestors(home: Path, digests: set[str]) -> set[str]:
    """Also what they were made of: later stages of the same run read it."""
    found: set[str] = set()
    waiting = set(digests)
    while waiting:
        digest = waiting.pop()
        if digest in found:
            continue
        found.add(digest)
        for note in makers(home, digest).values():
            waiting.update(note["components"]["inputs"].values())
    return found


def _stages_of(summary: Path) -> list[tuple[str, str]]:
    """Key and artifact of every stage."""
    try:
        stages = RunSummary.model_validate(read_json(read_file(summary))).stages
        return [(stage.key, stage.artifact) for stage in stages]
    except (OSError, ValueError):
        logger.warning("%s cannot be read; what it refers to is not known", summary)
        return []


def _run_began(record: Mapping[str, Any]) -> float:
    """A moment before the first stage of an attempt's run, be it from the cache."""
    process = process_began(record)
    # Of another machine, which alone knows: what it looks up before its first attempt takes less.
    return _began(record) - HOUR if process is None else min(process, _began(record))


def _began(record: Mapping[str, Any]) -> float:
    return _time(record["started"])


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
