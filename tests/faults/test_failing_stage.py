"""A stage that raises stops what reads from it and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from faulty import STAGES, Done, FaultyHome, raising
from typed_command import environment

MakeHome = Callable[[str | None], FaultyHome]

CAUSE = "the kernel has a mistake"
BROKEN_TEACHER = raising("rosita_core.stages.teacher", "finetune", CAUSE)
BROKEN_AUGMENT = raising("rosita_core.stages.augment", "augment_data", CAUSE)
BROKEN_WIDTH = raising("rosita_core.stages.width", "prune_width", CAUSE)


def says_what_failed(place: FaultyHome, done: Done, stage: str, waiting: str) -> None:
    assert done.code == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    record = place.home / "attempts" / stage / "000001.json"
    assert done.last_line == (
        f"rosita: stage {stage} failed in attempt 1 of recipe smoke: RuntimeError: {CAUSE}; its "
        f"record with the traceback is {record}; not run for want of {stage}: {waiting}"
    )
    [attempt] = place.attempts(stage)
    assert (attempt["status"], attempt["error"]) == ("failed", f"RuntimeError: {CAUSE}")
    assert attempt["traceback"][0] == "Traceback (most recent call last):"


def test_others_finish_and_the_mended_run_goes_on(home_before: MakeHome, undisturbed: Done) -> None:
    """`augment` reads only the data: it is made although the teacher before it failed."""
    place = home_before("teacher")
    done = place.compress(faults=[BROKEN_TEACHER])
    says_what_failed(place, done, "teacher", "student, depth, width, assess, export")
    [attempt] = place.attempts("augment")
    assert attempt["status"] == "completed"

    done = place.compress()
    assert done.artifacts() == undisturbed.artifacts()
    cached = ("data", "augment")
    assert done.statuses() == {s: "cached" if s in cached else "completed" for s in STAGES}


@pytest.mark.long
def test_two_stages_fail(home_before: MakeHome) -> None:
    """Both are named; each stands for what waits for it."""
    place = home_before("teacher")
    done = place.compress(faults=[BROKEN_TEACHER, BROKEN_AUGMENT])
    assert done.code == 1
    for stage in ("teacher", "augment"):
        assert f"stage {stage} failed in attempt 1 of recipe smoke: RuntimeError" in done.last_line
    assert done.last_line.endswith(
        "not run for want of teacher, augment: student, depth, width, assess, export"
    )


@pytest.mark.long
def test_augment_fails_and_the_teacher_is_kept(home_before: MakeHome, undisturbed: Done) -> None:
    place = home_before("teacher")
    done = place.compress(faults=[BROKEN_AUGMENT])
    says_what_failed(place, done, "augment", "student, depth, width, assess, export")
    [attempt] = place.attempts("teacher")
    assert attempt["status"] == "completed"
    assert place.compress().artifacts() == undisturbed.artifacts()
    assert len(place.attempts("teacher")) == 1


@pytest.mark.long
def test_prefects_own_retry(home_before: MakeHome, undisturbed: Done) -> None:
    """`prefect flow-run retry` of the failed run computes what is missing and nothing else."""
    place = home_before("width")
    done = place.compress(faults=[BROKEN_WIDTH])
    says_what_failed(place, done, "width", "assess, export")
    run_id = place.attempts("width")[0]["flow_run_id"]
    entrypoint = "flows.deployed.compress"
    retried = subprocess.run(
        [sys.executable, "-m", "prefect", "flow-run", "retry", run_id, "--entrypoint", entrypoint],
        env=environment(place.home, place.prefect, {"PREFECT_API_URL": place.api}),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert retried.returncode == 0, retried.stdout[-2000:] + retried.stderr[-4000:]
    assert f"Flow run '{run_id}' completed successfully." in " ".join(retried.stdout.split())
    counts = [len(place.attempts(stage)) for stage in STAGES]
    assert counts == [1, 1, 1, 1, 1, 2, 1, 1]
    assert [a["flow_run_id"] for a in place.attempts("width")] == [run_id, run_id]
    done = place.compress()
    assert done.artifacts() == undisturbed.artifacts()
    assert set(done.statuses().values()) == {"cached"}
