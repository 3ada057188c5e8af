"""The course of a training, kept in the home so that reports need no server.

Each attempt of a stage appends what its kernel reports to its own file beside its record
(`attempts/<stage>/<number>.history.jsonl`), a line per observation: step, metrics, shape, message.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tasks.records import attempt_path, attempts


class Observation(Protocol):
    """What a kernel reports: `rosita_core.training.progress.Progress` has this form."""

    @property
    def step(self) -> int: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...
    @property
    def shape(self) -> str | None: ...
    @property
    def message(self) -> str | None: ...


def history_path(home: str | Path, stage_name: str, number: int) -> Path:
    """Where the history of one attempt lies."""
    return attempt_path(home, stage_name, number).with_suffix(".history.jsonl")


def append(path: Path, event: Observation) -> None:
    """Add one observation."""
    line = {
        "step": event.step,
        "metrics": dict(event.metrics),
        "shape": event.shape,
        "message": event.message,
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def history(home: str | Path, stage_name: str, number: int) -> list[dict[str, Any]]:
    """The observations that led to the result of attempt `number`, in order of their steps.

    Where it went on from a checkpoint, what earlier attempts of the same key saw up to there comes
    first. A line that a killed process left unfinished is left out.
    """
    made = {record["number"]: record for record in attempts(home, stage_name)}
    found: list[dict[str, Any]] = []
    until: int | None = None
    key = made[number]["key"] if number in made else None
    for current in sorted((n for n in made if n <= number), reverse=True):
        record = made[current]
        if record["key"] != key or (current != number and record["status"] == "completed"):
            continue
        lines = _lines(history_path(home, stage_name, current))
        found = [line for line in lines if until is None or line["step"] <= until] + found
        until = record.get("resumed_from")
        if until is None:
            break
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines
