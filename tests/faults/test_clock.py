"""A clock that was set back confuses nothing: what counts is content, and numbers that count up."""

from __future__ import annotations

from collections.abc import Callable

from faulty import STAGES, Done, FaultyHome, clock

MakeHome = Callable[[str | None], FaultyHome]

TWO_DAYS = 2 * 24 * 3600.0


def test_clock_set_back(home_before: MakeHome, undisturbed: Done) -> None:
    """Under the new time all is cached, and a changed field computes its stage."""
    place = home_before(None)
    done = place.compress("width.learning_rate=2e-3", faults=[clock(-TWO_DAYS)])
    rerun = ("width", "assess", "export")
    assert done.statuses() == {s: "completed" if s in rerun else "cached" for s in STAGES}

    first, second = place.attempts("width")
    assert (first["number"], second["number"]) == (1, 2)
    assert second["started"] < first["started"], "the clock of the second run was set back"
    assert second["status"] == "completed"
    # The plan compares with the attempt that was made last, whatever its date.
    assert place.plan("width.learning_rate=3e-3")["width"]["reason"] == (
        "differs from the last attempt: config.training.learning_rate 0.002 -> 0.003"
    )
