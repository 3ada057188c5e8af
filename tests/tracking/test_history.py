"""The course of a training over all its attempts is that of one that was not stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stage_results import TIME, stage_result

from rosita_core.training.progress import Progress
from tasks.cache.metric_history import (
    append,
    fetched_history_path,
    history_path,
    observations,
)
from tasks.cache.records import attempt_path, attempts, unreadable_attempts
from tasks.store.artifacts import write_json

STAGE, KEY = "one-step", "1" * 64
RESULT = stage_result(STAGE, KEY, "2" * 64)


def attempt(home: Path, number: int, status: str, **more: Any) -> None:
    """A record of an attempt as `tasks.execution.attempt.Attempt` writes it."""
    record: dict[str, Any] = {
        "stage": STAGE,
        "key": KEY,
        "components": {
            name: {} for name in ("config", "inputs", "source", "libraries", "numerics")
        },
        "recipe": "smoke",
        "flow_run_id": "f",
        "status": status,
        "started": TIME,
        "finished": None,
    }
    if status == "completed":
        record |= {"finished": TIME, "result": RESULT.model_dump()}
    write_json(attempt_path(home, STAGE, number), record | more)


def ranked(home: Path, number: int, batches: range) -> None:
    for batch in batches:
        event = Progress(batch, 40, {}, "a4_l4", "ranking heads and FFN units", "ranking")
        append(history_path(home, STAGE, number), event)


def trained(home: Path, number: int, steps: range) -> None:
    for step in steps:
        event = Progress(step, 9, {"train/loss": 1 / (1 + step)}, "a2_l4", None)
        append(history_path(home, STAGE, number), event)


def steps(home: Path, number: int) -> list[int]:
    return [line["step"] for line in observations(home, STAGE, number, KEY)]


def test_ranking_is_no_part_of_it(tmp_path: Path) -> None:
    """Its batches must not be taken for steps, in lines nor in where an attempt went on from."""
    attempt(tmp_path, 1, "running", resumed_from=None)
    ranked(tmp_path, 1, range(1, 41))
    # Killed before the training had a checkpoint, so that the last one is of the ranking.
    trained(tmp_path, 1, range(4))
    attempt(tmp_path, 2, "interrupted", resumed_from=30)
    ranked(tmp_path, 2, range(31, 41))
    trained(tmp_path, 2, range(7))
    attempt(tmp_path, 3, "completed", resumed_from=5)
    trained(tmp_path, 3, range(6, 10))
    assert steps(tmp_path, 3) == list(range(10))


def test_a_training_that_was_stopped_twice(tmp_path: Path) -> None:
    attempt(tmp_path, 1, "running", resumed_from=None)
    trained(tmp_path, 1, range(5))
    attempt(tmp_path, 2, "running", resumed_from=3)
    trained(tmp_path, 2, range(4, 8))
    # Ended before it had looked for a checkpoint; and another one before its first step.
    attempt(tmp_path, 3, "failed")
    attempt(tmp_path, 4, "running", resumed_from=6)
    attempt(tmp_path, 5, "completed", resumed_from=6)
    trained(tmp_path, 5, range(7, 10))
    assert steps(tmp_path, 5) == list(range(10))


def test_a_fetched_result_is_not_taken_for_the_attempt_here_of_its_number(tmp_path: Path) -> None:
    """Both homes count from 1: the one here was killed, and another home took its stage over."""
    attempt(tmp_path, 1, "running", resumed_from=None)
    trained(tmp_path, 1, range(4))
    assert steps(tmp_path, 1) == list(range(4))
    for step in range(10):
        event = Progress(step, 9, {"train/loss": 1 / (1 + step)}, "a2_l4", None)
        append(fetched_history_path(tmp_path, STAGE, KEY), event)
    assert steps(tmp_path, 1) == list(range(10))
    attempt(tmp_path, 1, "completed", resumed_from=None)
    assert steps(tmp_path, 1) == list(range(4))


def test_one_that_began_anew_has_no_past(tmp_path: Path) -> None:
    attempt(tmp_path, 1, "running", resumed_from=None)
    trained(tmp_path, 1, range(5))
    attempt(tmp_path, 2, "completed", resumed_from=None)
    trained(tmp_path, 2, range(10))
    assert steps(tmp_path, 2) == list(range(10))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"status": "comp', "is not readable JSON"),
        (b"\xff\xfe", "is not readable JSON"),
        (b"[]", "is not the record of an attempt: it is missing or wrong"),
        (b'{"status": "running"}', "is not the record of an attempt: stage is missing or wrong"),
    ],
)
def test_a_record_that_cannot_be_read_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, said: str
) -> None:
    attempt(tmp_path, 1, "completed", resumed_from=None)
    path = attempt_path(tmp_path, STAGE, 2)
    path.write_bytes(content)
    attempt(tmp_path, 3, "running", resumed_from=None)
    # A claim, whose record follows.
    attempt_path(tmp_path, STAGE, 4).touch()
    for _ in range(2):
        assert [record["number"] for record in attempts(tmp_path, STAGE)] == [1, 3]
    assert unreadable_attempts(tmp_path) == [path]
    assert caplog.messages == [f"{path} {said}; the attempt is left out"]
