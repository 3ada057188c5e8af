"""`rosita grid --workers 2`: when each stage ran, by MLflow's times, and how it stops."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from command_line import rosita
from grid_homes import SECONDS, SMOKE, command, made
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from processes import lives, words

from flows.grids.files import read_cell
from tasks.stages.catalogue import catalogue

pytestmark = pytest.mark.usefixtures("in_prefect")

WORKERS = (*SMOKE, "--seeds", "44", "--workers", "2", "--json")
# Asking the cache and starting an attempt, on a machine that does other things as well.
MOMENT = 3.0


def wait_for(moment: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for what must come before the process ends."""
    deadline = time.monotonic() + SECONDS
    while not moment():
        assert process.poll() is None, f"ended with {process.returncode} too early"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


@dataclass(frozen=True)
class Ran:
    """An attempt of a stage: when it ran, in seconds since 1970."""

    cell: str
    stage: str
    began: float
    ended: float


@dataclass(frozen=True)
class Held:
    """A home in which two cells have run on two workers, while `depth` was held for some time.

    Attributes:
        home: ROSITA_HOME.
        document: what the command printed.
        ran: every stage that was computed.
        released: when `depth` went on.
    """

    home: Path
    document: dict[str, object]
    ran: list[Ran]
    released: float

    def of(self, stage: str, cell: str = "") -> Ran:
        [found] = [one for one in self.ran if one.stage == stage and one.cell.startswith(cell)]
        return found


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    folder = tmp_path_factory.mktemp("workers")
    home, flag = folder / "home", folder / "flag"
    hold = {"do": "hold", "stage": "depth", "call": 2, "flag": str(flag)}
    with (folder / "said").open("w") as said, (folder / "out").open("w") as out:
        process = subprocess.Popen(
            **command(home, *WORKERS, faults=[hold]), stdout=out, stderr=said
        )
        wait_for(lambda: flag.with_name("flag.reached").exists(), process)
        # What does not read from it goes on, but for what wants the machine for itself.
        wait_for(lambda: "1-s44/one-step: completed" in (folder / "said").read_text(), process)
        time.sleep(MOMENT)
        released = time.time()
        flag.touch()
        assert process.wait(SECONDS) == 0, (folder / "said").read_text()
    document = json.loads((folder / "out").read_text())
    yield Held(home, document, ran_in(home), released)


def ran_in(home: Path) -> list[Ran]:
    store = MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")
    [experiment] = [e for e in store.search_experiments() if e.name.startswith("rosita-")]
    runs = store.search_runs([experiment.experiment_id], "tags.`rosita.cached` = 'false'")
    return sorted(
        (
            Ran(
                run.data.tags["rosita.of_cell"].rpartition("/")[2],
                run.data.tags["rosita.stage"],
                run.info.start_time / 1000,
                run.info.end_time / 1000,
            )
            for run in runs
        ),
        key=lambda one: one.began,
    )


def test_each_distinct_stage_ran_once_in_a_process_of_its_own(held: Held) -> None:
    records = made(held.home)
    assert {record["status"] for record in records} == {"completed"}
    assert len(records) == len({record["key"] for record in records}) == 11
    assert held.document["stages"] == {"distinct": 11, "computed": 11}
    assert sorted(one.stage for one in held.ran) == sorted(record["stage"] for record in records)


def test_two_branches_run_at_once(held: Held) -> None:
    pairs = itertools.combinations(held.ran, 2)
    at_once = {frozenset((a.stage, b.stage)) for a, b in pairs if b.began < a.ended}
    assert frozenset(("teacher", "augment")) in at_once
    assert frozenset(("one-step", "student")) in at_once


def test_never_more_stages_than_workers_and_what_is_timed_runs_alone(held: Held) -> None:
    for one in held.ran:
        at_its_start = [o for o in held.ran if o.began <= one.began < o.ended]
        assert len(at_its_start) <= 2
        if any(catalogue()[o.stage].timed for o in at_its_start):
            assert len(at_its_start) == 1, at_its_start


def test_a_slow_stage_delays_only_its_readers(held: Held) -> None:
    slow = held.of("depth")
    assert slow.began < held.released < slow.ended
    readers = [held.of("width"), held.of("assess", "4-"), held.of("export", "4-")]
    assert all(one.began >= slow.ended - 0.01 for one in readers)
    for name in ("student", "one-step"):
        assert held.of(name).ended < held.released, name


def test_no_worker_idles_while_a_stage_is_ready(held: Held) -> None:
    """Between the moment when its inputs are there and its start both workers are busy."""
    stages = {(one.cell, one.stage): one for one in held.ran}
    # How quick this machine is today: both workers were free when the data was there.
    began = min(held.of("teacher").began, held.of("augment").began)
    patience = min(max(MOMENT, 3 * (began - held.of("data").ended)), 15.0)
    reads = {
        ("1-s44", "teacher"): ["data"],
        ("1-s44", "augment"): ["data"],
        ("1-s44", "one-step"): ["data", "teacher", "augment"],
        ("4-s44", "student"): ["data", "teacher", "augment"],
        ("4-s44", "width"): ["depth"],
    }
    for place, names in reads.items():
        one = stages[place]
        ready = max(o.ended for o in held.ran if o.stage in names and o.ended <= one.began + 0.01)
        others = [o for o in held.ran if o is not one]
        moment = ready + patience
        while moment < one.began:
            busy = [o for o in others if o.began <= moment < o.ended]
            alone = any(catalogue()[o.stage].timed for o in busy)
            assert len(busy) == 2 or alone, (place, moment - ready, busy)
            moment += 0.25


def test_prefect_knows_each_stage_once_with_what_it_reads(held: Held) -> None:
    with get_client(sync_client=True) as client:
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[str(held.document["run_id"])]))
        runs = client.read_task_runs(flow_run_filter=chosen)
    names = [run.name for run in runs]
    assert sorted(names) == sorted(f"{one.cell}/{one.stage}" for one in held.ran)
    by_id = {run.id: run.name.rpartition("/")[2] for run in runs}
    arrows = {
        (by_id[found.id], by_id[run.id])
        for run in runs
        for inputs in run.task_inputs.values()
        for found in inputs
        if found.input_type == "task_run"
    }
    assert {
        *(("data", "teacher"), ("data", "augment"), ("teacher", "student"), ("augment", "student")),
        *(("student", "depth"), ("depth", "width"), ("width", "assess"), ("assess", "export")),
        *(("teacher", "one-step"), ("augment", "one-step"), ("one-step", "assess")),
    } <= arrows


def test_stopped_it_saves_and_goes_on(tmp_path: Path) -> None:
    home, flag = tmp_path / "home", tmp_path / "flag"
    hold = {"do": "hold", "stage": "width", "call": 4, "flag": str(flag)}
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            **command(home, *WORKERS, faults=[hold]), stdout=said, stderr=said
        )
        wait_for(lambda: flag.with_name("flag.reached").exists(), process)
        workers = workers_of(process.pid)
        assert len(workers) == 2
        assert all({signal.SIGTERM, signal.SIGINT} <= blocked(worker) for worker in workers)
        process.terminate()
        wait_for(lambda: "SIGTERM: saving" in (tmp_path / "said").read_text(), process)
        # The worker has to have heard of it before its training goes on.
        time.sleep(MOMENT)
        flag.touch()
        code = process.wait(SECONDS)
    said_text = (tmp_path / "said").read_text(encoding="utf-8")
    assert code == 128 + signal.SIGTERM, said_text
    assert "4-s44: interrupted" in said_text
    assert "stage width was stopped and saved after 4 of" in said_text
    assert "Traceback" not in said_text
    assert not any(lives(worker) for worker in workers)
    assert {r["stage"]: r["status"] for r in made(home)}["width"] == "interrupted"

    done = rosita(*WORKERS, home=home)
    assert done.code == 0, done.stderr
    found = made(home)
    again = [r for r in found if r["stage"] == "width"]
    assert [(r["status"], r["resumed_from"]) for r in again] == [
        ("interrupted", None),
        ("completed", 4),
    ]
    finished = [r for r in found if r["status"] == "completed"]
    assert len(finished) == len({r["key"] for r in finished}) == 11
    for cell in ("1-s44", "4-s44"):
        assert read_cell(home, "smoke-grid", cell)["status"] == "finished"


def test_a_worker_that_is_killed_is_replaced_and_its_stage_goes_on(tmp_path: Path) -> None:
    home, flag = tmp_path / "home", tmp_path / "flag"
    hold = {"do": "hold", "stage": "width", "call": 4, "flag": str(flag)}
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            **command(home, *WORKERS, faults=[hold]), stdout=said, stderr=said
        )
        wait_for(lambda: flag.with_name("flag.reached").exists(), process)
        # The other one waits for work, or is soon at it: `width` goes on from its checkpoint.
        for worker in workers_of(process.pid):
            if str(worker.pid) in flag.with_name("flag.reached").read_text():
                worker.kill()
        flag.touch()
        code = process.wait(SECONDS)
    said_text = (tmp_path / "said").read_text(encoding="utf-8")
    assert code == 0, said_text
    assert "stage width: its worker" in said_text
    tries = [(r["status"], r["resumed_from"]) for r in made(home) if r["stage"] == "width"]
    assert tries == [("failed", None), ("completed", 2)]


def workers_of(pid: int) -> list[psutil.Process]:
    """The processes that compute for it."""
    children = psutil.Process(pid).children(recursive=True)
    return [c for c in children if any("spawn_main" in word for word in words(c))]


def blocked(process: psutil.Process) -> set[int]:
    """The signals that it never hears of, by the kernel's list of them."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    mask = int(re.findall(r"SigBlk:\s*(\w+)", status)[0], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}
