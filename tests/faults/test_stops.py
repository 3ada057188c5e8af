"""A run that was stopped goes on where it was, and ends with the same bits."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from faulty import (
    COMPUTED,
    Done,
    FaultyHome,
    forget,
    raising,
    remove,
    signals_at,
)

MakeHome = Callable[[str | None], FaultyHome]

TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT
KILLED = 128 + signal.SIGKILL

# Five moments spread over the steps of each training; a smoke teacher has 8, the others 15.
MOMENTS = {
    "teacher": (1, 3, 4, 6, 7),
    "student": (1, 4, 7, 10, 14),
    "depth": (1, 4, 7, 10, 14),
    "width": (1, 4, 7, 10, 14),
}


def saved_before(unit: int) -> int | None:
    """The newest checkpoint of a training that is killed after `unit` steps: one each 2 steps."""
    return (unit - 1) // 2 * 2 or None


def saved(stage: str, unit: int, name: str) -> str:
    """What a signal that was heeded makes the command say."""
    return (
        f"rosita: {name}: saving a checkpoint; once more stops without one\n"
        f"rosita: stage {stage} was stopped and saved after {unit} of 15 steps; it goes on "
        "from there when it is started again\n"
    )


def same_as_undisturbed(done: Done, undisturbed: Done) -> None:
    assert done.artifacts() == undisturbed.artifacts()
    assert list(done.artifacts()) == list(COMPUTED)


def test_stopped_in_one_stage_after_the_other(home_before: MakeHome, undisturbed: Done) -> None:
    """SIGKILL, SIGTERM, Ctrl-C, two signals in a row, a closed terminal: in stages of one run."""
    place = home_before("teacher")

    done = place.compress(faults=[signals_at("teacher", 5, "SIGKILL")])
    assert done.code == KILLED
    assert place.attempts("teacher")[-1]["status"] == "running"

    done = place.compress(faults=[signals_at("student", 7, "SIGTERM")])
    assert done.code == TERMINATED
    assert saved("student", 7, "SIGTERM") in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr

    done = place.compress(faults=[signals_at("depth", 5, "SIGTERM", "SIGINT")])
    assert done.code == INTERRUPTED
    assert "rosita: SIGTERM: saving a checkpoint; once more stops without one" in done.stderr
    assert "rosita: SIGINT: stopping at once; the same command goes on from" in done.stderr
    assert "Traceback" not in done.stderr

    done = place.compress(faults=[signals_at("width", 9, "SIGINT")])
    assert done.code == INTERRUPTED
    assert saved("width", 9, "SIGINT") in done.stderr
    assert "Traceback" not in done.stderr

    # Three steps after the nine that are done, and not three steps of a training begun anew.
    done = place.compress(faults=[signals_at("width", 3, "SIGTERM")])
    assert saved("width", 12, "SIGTERM") in done.stderr

    # As a terminal does that is closed.
    done = place.compress(faults=[signals_at("width", 2, "SIGHUP")])
    assert saved("width", 14, "SIGHUP") in done.stderr
    assert done.code == 128 + signal.SIGHUP

    done = place.compress()
    same_as_undisturbed(done, undisturbed)
    assert place.resumed_from("teacher") == [None, 4]
    assert place.resumed_from("student") == [None, 7]
    assert place.resumed_from("depth") == [None, 4]
    assert place.resumed_from("width") == [None, 9, 12, 14]
    for stage in ("student", "depth", "width"):
        *stopped, last = [attempt["status"] for attempt in place.attempts(stage)]
        assert (set(stopped), last) == ({"interrupted"}, "completed")
    assert place.unfinished() == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("stage", list(MOMENTS))
def test_stopped_five_times_in_a_training(
    home_before: MakeHome, undisturbed: Done, stage: str, name: str
) -> None:
    place = home_before(stage)
    resumed: list[int | None] = [None]
    for unit in MOMENTS[stage]:
        done = place.compress(faults=[signals_at(stage, unit - (resumed[-1] or 0), name)])
        assert done.code == 128 + getattr(signal, name)
        # A signal that can be heeded costs nothing, one that cannot what came after a checkpoint.
        resumed.append(unit if name == "SIGTERM" else saved_before(unit))
    done = place.compress()
    same_as_undisturbed(done, undisturbed)
    assert place.resumed_from(stage) == resumed
    assert place.unfinished() == []


@pytest.mark.long
def test_killed_five_times_in_ranking_and_training_of_one_step(
    home_before: MakeHome, undisturbed: Done
) -> None:
    place, setting = home_before("student"), "kd_setting=1"
    # Batches of the ranking, of 8: killed at 3 and 5. Steps of the training: at 3, 7 and 12.
    for call in (3, 3, 6, 6, 7):
        done = place.compress(setting, faults=[signals_at("one-step", call, "SIGKILL")])
        assert done.code == KILLED
    resumed = place.compress(setting)
    assert place.resumed_from("one-step") == [None, 2, 4, 1, 5, 11]
    assert place.unfinished() == []
    forget(place.home, resumed.summary, "one-step")
    whole = place.compress(setting)
    assert place.resumed_from("one-step") == [None]
    assert resumed.artifacts() == whole.artifacts()


@pytest.mark.long
def test_stopped_while_a_teacher_is_kept_and_while_it_is_read(home_before: MakeHome) -> None:
    """On more rows than the smoke recipe has: about four files. The training has two passes."""
    place, changes = home_before("data"), ("data.limit_rows=1200", "width.epochs=2")
    for call, name in ((1, "SIGKILL"), (3, "SIGKILL"), (1, "SIGTERM")):
        done = place.compress(*changes, faults=[signals_at("width-targets", call, name)])
        assert done.code == 128 + getattr(signal, name), done.stderr
    for call, name in ((9, "SIGTERM"), (40, "SIGKILL")):
        done = place.compress(*changes, faults=[signals_at("width", call, name)])
        assert done.code == 128 + getattr(signal, name), done.stderr
    resumed = place.compress(*changes)
    first, second, third, last = place.resumed_from("width-targets")
    assert (first, second) == (None, None)
    assert third is not None and last is not None and 0 < third < last
    assert place.resumed_from("width") == [None, 9, 47]
    assert place.unfinished() == []
    forget(place.home, resumed.summary, "width-targets")
    whole = place.compress(*changes)
    assert place.resumed_from("width-targets") == place.resumed_from("width") == [None]
    assert resumed.artifacts() == whole.artifacts()
    assert "width-targets" in whole.artifacts()


@pytest.mark.long
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_stopped_five_times_in_augmentation(home_before: MakeHome, name: str) -> None:
    """On more rows than the smoke recipe has: five blocks of 512. Nothing is trained."""
    place, rows = home_before("data"), "data.limit_rows=2800"
    no_training = raising("rosita_core.stages.teacher", "finetune", "not wanted here")
    heeded = name == "SIGTERM"
    for call in (1, 1, 1, 1, 1) if heeded else (1, 2, 2, 2, 2):
        done = place.compress(rows, faults=[no_training, signals_at("augment", call, name)])
        assert done.code == 128 + getattr(signal, name)
    assert place.compress(rows, faults=[no_training]).code == 1
    last = place.attempts("augment")[-1]
    rows_done = [512, 1024, 1536, 2048, 2560]
    resumed_from = [None, *rows_done] if heeded else [None, None, *rows_done[:-1]]
    assert place.resumed_from("augment") == resumed_from
    assert place.unfinished() == []
    resumed = last["result"]
    (place.home / "results" / resumed["key"]).unlink()
    remove(place.home / "store" / resumed["artifact"])
    assert place.compress(rows, faults=[no_training]).code == 1
    whole = place.attempts("augment")[-1]
    assert whole["resumed_from"] is None
    assert whole["result"]["artifact"] == resumed["artifact"]
