"""Identical runs at once on one home: one computes, the others wait for it and hit."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import STAGES, Done, FaultyHome, Started, hold_at

MakeHome = Callable[[str | None], FaultyHome]

WAITING = "stage width is running elsewhere; waiting for its result"


def begin(place: FaultyHome, tmp_path: Path, runs: int) -> tuple[Path, Started, list[Started]]:
    """One run in the middle of `width`, and others that wait for it."""
    flag = tmp_path / "go-on"
    first = place.start_compress(faults=[hold_at("width", 5, flag)])
    first.until_held(flag)
    others = [place.start_compress() for _ in range(runs - 1)]
    for other in others:
        other.until_said(WAITING)
    return flag, first, others


def is_new(done: Done, stage: str) -> bool:
    return done.statuses()[stage] == "completed"


def attempts(place: FaultyHome) -> dict[str, int]:
    return {stage: len(place.attempts(stage)) for stage in STAGES}


@pytest.mark.long
@pytest.mark.parametrize("runs", [2, 4])
def test_identical_runs_do_the_work_once(
    home_before: MakeHome, undisturbed: Done, tmp_path: Path, runs: int
) -> None:
    place = home_before("width")
    flag, first, others = begin(place, tmp_path, runs)
    flag.touch()
    done = [run.done() for run in (first, *others)]
    for one in done:
        assert one.artifacts() == undisturbed.artifacts()
    assert attempts(place) == dict.fromkeys(STAGES, 1)
    computed = [(run, s) for run, one in enumerate(done) for s in STAGES if is_new(one, s)]
    assert computed[0] == (0, "width")
    assert sorted(stage for _, stage in computed) == ["assess", "export", "width"]
    assert place.unfinished() == []


@pytest.mark.long
@pytest.mark.parametrize("runs", [2, 4])
def test_identical_runs_in_an_empty_cache(
    home_before: MakeHome, undisturbed: Done, runs: int
) -> None:
    place = home_before("data")
    started = [place.start_compress() for _ in range(runs)]
    done = [run.done() for run in started]
    for one in done:
        assert one.artifacts() == undisturbed.artifacts()
    assert attempts(place) == dict.fromkeys(STAGES, 1)
    assert place.unfinished() == []


def test_the_one_that_computes_is_killed(
    home_before: MakeHome, undisturbed: Done, tmp_path: Path
) -> None:
    """One of those that wait takes over, from its checkpoint; the others take the result."""
    place = home_before("width")
    _, first, others = begin(place, tmp_path, 3)
    first.kill()
    assert first.done().code == 128 + signal.SIGKILL
    done = [run.done() for run in others]
    for one in done:
        assert one.artifacts() == undisturbed.artifacts()
    assert sorted(one.statuses()["width"] for one in done) == ["cached", "completed"]
    assert place.resumed_from("width") == [None, 4]
    assert [attempt["status"] for attempt in place.attempts("width")] == ["running", "completed"]
    assert [len(place.attempts(stage)) for stage in ("assess", "export")] == [1, 1]
    assert place.unfinished() == []
