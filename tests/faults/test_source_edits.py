"""A stage runs again when the code that computes it has changed, and only then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import STAGES, Done, FaultyHome, recipe
from source_copy import SourceCopy

MakeHome = Callable[[str | None], FaultyHome]

ALL_CACHED = dict.fromkeys(STAGES, "cached")


@pytest.fixture
def source(tmp_path: Path) -> SourceCopy:
    return SourceCopy(tmp_path / "source")


def planned(place: FaultyHome, source: SourceCopy) -> dict[str, str]:
    done = place.run("plan", *recipe(), "--json", env={"PYTHONPATH": source.path()})
    return done.statuses()


def test_used_kernel(home_before: MakeHome, undisturbed: Done, source: SourceCopy) -> None:
    """Of comments and docstrings no stage takes notice, of code exactly those that use it."""
    place = home_before(None)
    edit_comments(source)
    source.append("rosita_core/stages/depth.py", "\n\nADDED = 1\n")
    done = place.compress(env={"PYTHONPATH": source.path()})
    # The new code computes the same bits, so that what reads them has nothing to do.
    assert done.statuses() == ALL_CACHED | {"depth": "completed"}
    assert done.artifacts() == undisturbed.artifacts()


def edit_comments(source: SourceCopy) -> None:
    source.edit("rosita_core/stages/width.py", '"""Stage `width`: ', '"""Width, the stage: ')
    source.append("rosita_core/training/loop.py", "\n\n# A comment.\n")


@pytest.mark.long
def test_plan_of_edited_kernels(home_before: MakeHome, source: SourceCopy) -> None:
    place = home_before(None)
    edit_comments(source)
    assert planned(place, source) == ALL_CACHED
    source.append("rosita_core/stages/depth.py", "\n\nADDED = 1\n")
    assert planned(place, source) == ALL_CACHED | {
        "depth": "to run",
        "width": "waits",
        "assess": "waits",
        "export": "waits",
    }
    source.append("rosita_core/distillation/objective.py", "\n\nADDED = 1\n")
    assert planned(place, source) == ALL_CACHED | {
        "student": "to run",
        "depth": "waits",
        "width": "waits",
        "assess": "waits",
        "export": "waits",
    }


@pytest.mark.long
def test_used_kernel_that_computes_something_else(
    home_before: MakeHome, undisturbed: Done, source: SourceCopy
) -> None:
    place = home_before(None)
    source.edit(
        "rosita_core/stages/depth.py",
        "at_equal_distances(targets, steps, settings.prune_fraction)",
        "at_equal_distances(targets, steps, settings.prune_fraction / 2)",
    )
    done = place.compress(env={"PYTHONPATH": source.path()})
    rerun = ("depth", "width", "assess", "export")
    assert done.statuses() == {s: "completed" if s in rerun else "cached" for s in STAGES}
    changed = {s for s, digest in done.artifacts().items() if digest != undisturbed.artifacts()[s]}
    assert changed == {"depth", "width"}


@pytest.mark.long
@pytest.mark.parametrize(
    "file",
    [
        "rosita_core/stages/one_step.py",
        "rosita_core/compression/ranking.py",
        "tasks/execution/attempt.py",
    ],
)
def test_code_that_no_kernel_of_the_recipe_uses(
    home_before: MakeHome, source: SourceCopy, file: str
) -> None:
    place = home_before(None)
    source.append(file, "\n\nADDED = 1\n")
    assert planned(place, source) == ALL_CACHED
    done = place.compress(env={"PYTHONPATH": source.path()})
    assert done.statuses() == ALL_CACHED


@pytest.mark.long
def test_field_of_the_last_stages(home_before: MakeHome, undisturbed: Done) -> None:
    place = home_before(None)
    done = place.compress("assess.macs_tokens=16")
    last = ("assess", "export")
    assert done.statuses() == {s: "completed" if s in last else "cached" for s in STAGES}
    assert done.artifacts() == undisturbed.artifacts()
    assert [len(place.attempts(stage)) for stage in STAGES] == [1] * 6 + [2] * 2
