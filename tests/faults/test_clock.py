"""A clock that was set back confuses nothing: what counts is content, and numbers that count up."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import STAGES, Done, FaultyHome, clock

MakeHome = Callable[[str | None], FaultyHome]

TWO_DAYS = 2 * 24 * 3600.0
ROOT = Path(__file__).parents[2]


def test_the_clock_is_another_for_every_module_that_asks_for_the_date() -> None:
    paths = [
        path for room in ("flows", "tasks", "rosita_core") for path in (ROOT / room).rglob("*.py")
    ]
    asking = [path for path in paths if "datetime.now(" in path.read_text(encoding="utf-8")]
    text = (ROOT / "tests/faults/injected/sitecustomize.py").read_text(encoding="utf-8")
    [listed] = re.findall(r"^DATED = (.*)$", text, re.MULTILINE)
    assert set(ast.literal_eval(listed)) == {
        ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in asking
    }


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
        "differs from attempt 2: config.training.learning_rate 0.002 -> 0.003"
    )


@pytest.mark.long
@pytest.mark.parametrize("gc_seconds", [-TWO_DAYS, 0.0])
def test_gc_beside_a_clock_set_back(home_before: MakeHome, gc_seconds: float) -> None:
    """What the run refers to stays, whichever clock looks at it."""
    place, change = home_before(None), "width.learning_rate=2e-3"
    first = place.compress(change, faults=[clock(-TWO_DAYS)])
    freed = place.run("gc", "--yes", "--older-than", "1", "--json", faults=[clock(gc_seconds)])
    assert freed.code == 0, freed.stderr
    again = place.compress(change)
    assert set(again.statuses().values()) == {"cached"}
    assert again.artifacts() == first.artifacts()
