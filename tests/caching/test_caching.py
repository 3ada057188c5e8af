"""The cache policy in a real Prefect: a stage runs once, and a hit is never a lie."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from contexts import stage_context
from mutations import prefects_own
from prefect import flow, task
from prefect.states import State

from tasks.cache.documents import StageResult
from tasks.cache.locks import StageLocks
from tasks.cache.policy import stage_options
from tasks.cache.records import inspect_record
from tasks.cache.source_closure import source_closure
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import Context, attempts, carry_out
from tasks.execution.work import Computed, Work
from tasks.home import Home
from tasks.host.liveness import this_process
from tasks.store.artifacts import Store
from tasks.store.json_files import sealed

pytestmark = pytest.mark.usefixtures("in_prefect")

NUMERICS = {"device": "cpu", "precision": "fp32", "hardware": "AVX2", "deterministic": True}


@dataclass(frozen=True)
class Settings:
    rate: float
    wait: float = 0.0
    fail: bool = False


def make_stage(settings: Settings) -> Stage:
    return Stage("student", ("rosita_core.stages",), settings, {}, NUMERICS)


STAGE = make_stage(Settings(1.0))


@task
def student(stage: Stage, context: Context) -> StageResult:
    return carry_out(compute, stage, context)


def compute(work: Work) -> Computed:
    settings = work.stage.config
    time.sleep(settings.wait)
    if settings.fail:
        raise RuntimeError("the kernel failed")
    with work.output() as folder:
        (folder / "weights.bin").write_text(f"{settings.rate}")
    return work.computed({"score": 0.5, "shape": "a2"})


@flow
def pipeline(stage: Stage, home: Path, copies: int) -> list[State[StageResult]]:
    ready = student.with_options(**stage_options(home, stage))
    futures = [ready.submit(stage, stage_context(home, None)) for _ in range(copies)]
    for future in futures:
        future.wait()
    return [future.state for future in futures]


def run(home: Path, stage: Stage = STAGE) -> tuple[str | None, Any]:
    ready = student.with_options(**stage_options(home, stage))
    state = ready(stage, stage_context(home, None), return_state=True)
    return state.name, state.result(raise_on_failure=False)


def found(home: Path, key: str) -> StageResult | None:
    return inspect_record(home, key, "student")[0]


def test_the_second_run_of_a_stage_is_a_hit_with_the_same_result(tmp_path: Path) -> None:
    assert found(tmp_path, STAGE.key) is None
    name, first = run(tmp_path)
    assert name == "Completed"
    name, second = run(tmp_path, make_stage(Settings(1)))
    assert (name, second) == ("Cached", first)
    assert found(tmp_path, STAGE.key) == first
    name, other = run(tmp_path, make_stage(Settings(2.0)))
    assert name == "Completed"
    assert other.artifact != first.artifact
    assert [record["status"] for record in attempts(tmp_path, "student")] == ["completed"] * 2
    # The home may move; a hit holds no path of it.
    moved = tmp_path.with_name("moved")
    shutil.copytree(tmp_path, moved)
    assert run(moved) == ("Cached", first)


def test_a_hit_is_a_use_and_a_look_is_none(tmp_path: Path) -> None:
    _, first = run(tmp_path)
    record = Home(tmp_path).results / first.key
    os.utime(record, (1, 1))
    assert found(tmp_path, first.key) == first
    assert record.stat().st_mtime == 1
    assert run(tmp_path) == ("Cached", first)
    assert time.time() - record.stat().st_mtime < 600


def alter(home: Path, result: StageResult) -> None:
    path = Store(home).path(result.artifact) / "weights.bin"
    path.chmod(0o644)
    path.write_text("2.0")


def remove(home: Path, result: StageResult) -> None:
    shutil.rmtree(Store(home).path(result.artifact).parent)


def swap_record(home: Path, result: StageResult) -> None:
    _, other = run(home, make_stage(Settings(3.0)))
    shutil.copy(Home(home).results / other.key, Home(home).results / result.key)


def rewrite(home: Path, result: StageResult, **changes: Any) -> None:
    changed = sealed(result.model_dump() | changes)
    (Home(home).results / result.key).write_bytes(changed)


def another_stages(home: Path, result: StageResult) -> None:
    rewrite(home, result, stage="teacher")


def wrong_digest(home: Path, result: StageResult) -> None:
    rewrite(home, result, artifact=f"g{result.artifact[1:]}")


def flip_a_digit(home: Path, result: StageResult) -> None:
    path = Home(home).results / result.key
    path.write_text(path.read_text().replace("0.5", "9.5"))


def names_a_serializer(home: Path, result: StageResult) -> None:
    path = Home(home).results / result.key
    path.write_bytes(prefects_own(home))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (remove, "the artifact is missing"),
        (swap_record, "its record belongs to the key"),
        (another_stages, "its record is one of stage teacher"),
        (wrong_digest, "its record is not the result of a stage"),
        (flip_a_digit, "its record has changed since it was written"),
        (names_a_serializer, "its record carries no digest of its own, as those of earlier"),
    ],
)
def test_what_cannot_be_trusted_is_a_miss_that_says_so(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path, StageResult], None],
    problem: str,
) -> None:
    _, first = run(tmp_path)
    damage(tmp_path, first)
    assert found(tmp_path, first.key) is None
    assert problem in (inspect_record(tmp_path, first.key, "student")[1] or "")
    caplog.clear()
    name, again = run(tmp_path)
    assert name == "Completed"
    assert "stage student will run again: " in caplog.text
    assert problem in caplog.text
    assert (again.artifact, again.attempt > first.attempt) == (first.artifact, True)
    assert len(list((Home(tmp_path).results / "damaged").iterdir())) == 1
    assert not (tmp_path / "ran").exists(), "the record's code must not run"
    assert run(tmp_path) == ("Cached", again)


def test_what_cannot_be_set_aside_fails_the_stage_before_it_runs(tmp_path: Path) -> None:
    """Neither the cache nor the lock is given up for it."""
    _, first = run(tmp_path)
    flip_a_digit(tmp_path, first)
    in_the_way = Home(tmp_path).results / "damaged"
    in_the_way.touch()
    name, error = run(tmp_path)
    assert name == "Failed"
    assert str(error).startswith("its record has changed since it was written, and it cannot be")
    assert len(attempts(tmp_path, "student")) == 1
    assert not StageLocks(tmp_path / "locks").is_locked(first.key)
    in_the_way.unlink()
    assert run(tmp_path)[0] == "Completed"


def test_looking_a_record_up_changes_nothing(tmp_path: Path) -> None:
    _, first = run(tmp_path)
    alter(tmp_path, first)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert found(tmp_path, first.key) is None
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_stages_that_want_the_same_result_compute_it_once(tmp_path: Path) -> None:
    states = pipeline(make_stage(Settings(1.0, wait=0.5)), tmp_path, 3)
    assert sorted(str(state.name) for state in states) == ["Cached", "Cached", "Completed"]
    assert len({state.result().finished_at for state in states}) == 1
    assert len(attempts(tmp_path, "student")) == 1


def test_a_failed_stage_is_recorded_and_runs_again(tmp_path: Path) -> None:
    stage = make_stage(Settings(1.0, fail=True))
    for _ in range(2):
        name, error = run(tmp_path, stage)
        assert name == "Failed"
        assert "the kernel failed" in str(error)
    records = attempts(tmp_path, "student")
    assert [record["number"] for record in records] == [1, 2]
    assert {record["status"] for record in records} == {"failed"}
    assert records[0]["error"] == "RuntimeError: the kernel failed"
    assert Store(tmp_path).digests() == []
    assert not StageLocks(tmp_path / "locks").is_locked(stage.key)


def test_provenance_says_how_an_artifact_was_made(tmp_path: Path) -> None:
    _, result = run(tmp_path)
    note = Store(tmp_path).provenance(result.artifact)[result.key]
    (made,) = attempts(tmp_path, "student")
    assert made["source_parts"] == source_closure(["rosita_core.stages"]).parts
    assert made.items() >= this_process().items()
    assert note["components"]["config"] == {"rate": 1.0, "wait": 0.0, "fail": False}
    assert (note["attempt"], note["metrics"]) == (1, {"score": 0.5, "shape": "a2"})


@contextmanager
def holding_lock(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock `k` of a folder until it is killed."""
    code = (
        "import sys, time, pathlib\n"
        "from tasks.cache.locks import StageLocks\n"
        "StageLocks(pathlib.Path(sys.argv[1])).acquire_lock('k', 'a')\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.send_signal(signal.SIGKILL)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    locks = StageLocks(tmp_path)
    with holding_lock(tmp_path):
        assert locks.is_locked("k")
        assert not locks.is_locked("other")
        assert not locks.acquire_lock("k", "b", acquire_timeout=0)
        assert not locks.wait_for_lock("k", timeout=0)
    assert locks.acquire_lock("k", "b", acquire_timeout=5)
    assert locks.is_lock_holder("k", "b")
    assert not locks.is_lock_holder("k", "c")
    with pytest.raises(ValueError, match="must be held by c"):
        locks.release_lock("k", "c")
    locks.release_lock("k", "b")
    assert not locks.is_locked("k")


def test_who_waits_long_is_told_for_whom_and_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.cache.locks.SAID_AFTER_SECONDS", 0.3)
    locks, path = StageLocks(tmp_path), tmp_path / "k.lock"
    with holding_lock(tmp_path) as process:
        pid, host, now = process.pid, socket.gethostname(), f"{datetime.now(UTC):%Y-%m-%d}"
        assert not locks.acquire_lock("k", "b", acquire_timeout=0.2)
        assert caplog.messages == []
        assert not locks.acquire_lock("k", "b", acquire_timeout=1)
        process.send_signal(signal.SIGSTOP)
        assert not locks.wait_for_lock("k", timeout=1)
        path.write_text("half a li")
        assert not locks.wait_for_lock("k", timeout=1)
    running, stopped, unknown = caplog.messages
    who = f"waiting for the lock {path}, which process {pid} on {host} has since {now}"
    assert running.startswith(who)
    assert running.endswith(f" UTC; it is taken over once it ends (`kill {pid}` there ends it)")
    assert stopped.startswith(who)
    assert f" UTC and is stopped: `kill -CONT {pid}` lets it go on, " in stopped
    assert unknown.endswith(f"which some process has; `fuser {path}` names it")
    # One that a task of this process has is told of by that task.
    assert locks.acquire_lock("k", "b", acquire_timeout=5)
    assert not locks.acquire_lock("k", "c", acquire_timeout=1)
    locks.release_lock("k", "b")
    assert len(caplog.messages) == 3
