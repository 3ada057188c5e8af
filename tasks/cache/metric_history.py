"""The learning curve of a training, kept in the home so that reports need no server.

Each attempt of a stage appends what its kernel reports to its own file beside its record
(`attempts/<stage>/<number>.history.jsonl`), a line per observation: step, metrics, shape, message,
phase. What another machine saw is fetched with its result (`<stage key>.history.jsonl`).
"""

import json
from pathlib import Path
from typing import Any

from rosita_core.training.progress import Progress
from tasks.cache.documents import Observation
from tasks.cache.records import attempt_path, attempts
from tasks.home import Home
from tasks.store.json_files import read_file, read_json


def history_path(home: str | Path, stage_name: str, number: int) -> Path:
    """Where the history of one attempt lies."""
    return attempt_path(home, stage_name, number).with_suffix(".history.jsonl")


def append(path: Path, event: Progress) -> None:
    """Add one observation."""
    line = {
        "step": event.step,
        "metrics": dict(event.metrics),
        "shape": event.shape,
        "message": event.message,
        "phase": event.phase,
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def fetched_history_path(home: str | Path, stage_name: str, key: str) -> Path:
    """Where the history of a result lies that another machine computed."""
    return Home(home).attempts_of(stage_name) / f"{key}.history.jsonl"


def made_here(home: str | Path, stage_name: str, number: int, key: str) -> bool:
    """Whether attempt `number` that made the result of a key is one of this home.

    Every home counts its attempts from 1, and a result that was fetched has the number of another.
    An attempt of this home for the same key, which was stopped, may have it as well.
    """
    fetched = fetched_history_path(home, stage_name, key).exists()
    return any(
        record["number"] == number
        and record["key"] == key
        and (record["status"] == "completed" or not fetched)
        for record in attempts(home, stage_name)
    )


def observations(home: str | Path, stage_name: str, number: int, key: str) -> list[dict[str, Any]]:
    """The observations that led to the result of attempt `number` of `key`, by their steps.

    Where it went on from a checkpoint, what earlier attempts of the same key saw up to there comes
    first. Left out are lines that a killed process left unfinished, and those of a phase before the
    one that made the result, such as the ranking before a prune in one step: it counts other units.
    """
    if not made_here(home, stage_name, number, key):
        return _lines(fetched_history_path(home, stage_name, key))
    made = {record["number"]: record for record in attempts(home, stage_name)}
    found: list[dict[str, Any]] = []
    until: int | None = None
    for current in sorted((n for n in made if n <= number), reverse=True):
        record = made[current]
        if record["key"] != key or (current != number and record["status"] == "completed"):
            continue
        if "resumed_from" not in record and current != number:
            # It ended before it had looked for a checkpoint.
            continue
        lines = _lines(history_path(home, stage_name, current))
        last = [line for line in lines if line.get("phase") is None]
        found = [line for line in last if until is None or line["step"] <= until] + found
        until = record.get("resumed_from")
        # One that was in an earlier phase has begun the last one itself: `resumed_from` counts
        # units of the earlier phase, and what others saw of the last one did not lead here.
        if until is None or len(last) < len(lines):
            break
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    """The observations in a file; lines that are none, or half of one, are left out."""
    try:
        content = read_file(path)
    except OSError:
        return []
    return [line for text in content.splitlines() if (line := _observation(text)) is not None]


def _observation(text: bytes) -> dict[str, Any] | None:
    try:
        return Observation.model_validate(read_json(text), strict=True).model_dump()
    except ValueError:
        return None
