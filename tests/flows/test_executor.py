"""What the executor does where a disk is full for a moment, and how many stages begin at once."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import rosita

from flows.engine import executor
from tasks.execution.workers import Workers, _Worker


def stages(name: str, count: int) -> list[Any]:
    return [SimpleNamespace(name=name)] * count


@pytest.mark.parametrize(
    ("trainings", "timed", "workers", "full"),
    [
        (0, 0, 2, set()),
        (31, 31, 2, set()),
        (32, 31, 2, {False}),
        (3, 32, 2, {True}),
        (32, 32, 8, {True, False}),
        (32, 32, 9, set()),
    ],
)
def test_what_is_timed_keeps_no_training_from_its_worker(
    trainings: int, timed: int, workers: int, full: set[bool]
) -> None:
    running = stages("width", trainings) + stages("assess", timed)
    assert executor._full(running, workers) == full


@pytest.mark.usefixtures("in_prefect")
def test_a_disk_that_is_full_for_a_moment_fails_the_stage_that_meets_it(
    tmp_path: Path, mlflow_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(executor, "shared_turn", full)
    home = tmp_path / "home"
    home.mkdir()
    (home / "mlflow.db").write_bytes(mlflow_tables.read_bytes())
    done = rosita("compress", "--recipe", "smoke", "--no-preflight", home=home)
    assert done.code == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "rosita: stage data of recipe smoke could not go on: OSError: [Errno 28]"
    )


def test_a_training_gets_a_worker_with_as_many_gpus_as_it_has_processes() -> None:
    place = Workers.__new__(Workers)
    small, large = _Worker("small", "one", 0, 1), _Worker("large", "two", 1, 4)
    place._workers = {"small": small, "large": large}
    wide, narrow = (False, 1, 0, 4), (False, 2, 1, 1)
    place._waiting = [wide, narrow]
    assert (place._for(wide), place._for(narrow)) == (large, small)
    large.busy = True
    assert (place._for(wide), place._for(narrow)) == (None, small)
