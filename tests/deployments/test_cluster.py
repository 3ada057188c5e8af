"""`rosita grid --cluster`: stages on the workers of a Dask cluster that an operator started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from command_line import rosita
from distributed import Client
from typed_command import ROSITA, environment

from tasks.cache.records import attempts
from tasks.execution.worker import ask_to_stop
from tasks.host.signals import able_to_save, can_save, forget_signals, stop_requested
from tasks.stages.catalogue import catalogue
from tasks.store.json_files import unsealed

pytestmark = pytest.mark.deployments

SECONDS = 600
QUICK = (
    "data.limit_rows=96",
    "checkpoint.every_steps=2",
    "assess.latency_repeats=2",
    "assess.latency_warmup=1",
    "assess.latency_tokens=16",
    "numerics.threads=1",
)
SMOKE = ("grid", "--grid", "smoke-grid", *(f"--set={change}" for change in QUICK))


def variables(home: Path) -> dict[str, str]:
    """Of a process that works in `home`; a worker needs no server of Prefect."""
    return environment(home, home.parent / "prefect")


def completed(home: Path) -> list[dict[str, Any]]:
    """Attempts of all stages that came to their end."""
    made = [record for stage in catalogue() for record in attempts(home, stage)]
    return [record for record in made if record["status"] == "completed"]


def saved(home: Path) -> set[str]:
    """Stages that have a checkpoint."""
    found = set()
    for path in home.glob("checkpoints/*/*/about.json"):
        # The older ones go while this looks at them.
        with suppress(OSError):
            found.add(unsealed(path.read_bytes())["stage"])
    return found


@contextmanager
def cluster(home: Path, workers: int, threads: int) -> Iterator[str]:
    """A scheduler and its workers, as an operator starts them; the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    begin = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    scheduler = [*begin, "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    begin = [sys.executable, "-m", "distributed.cli.dask_worker", address]
    worker = [*begin, "--nthreads", str(threads), "--resources", "GPU=1", "--host", "127.0.0.1"]
    worker += ["--memory-limit", "0"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in (scheduler, *([[*worker, "--no-dashboard"]] * workers)):
            started.append(
                subprocess.Popen(
                    command,
                    env=variables(home),
                    cwd=home.parent,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        with Client(address, timeout=120) as client:
            client.wait_for_workers(workers, timeout=120)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(60)


@contextmanager
def another_worker(home: Path, address: str, threads: int) -> Iterator[None]:
    """One that joins a cluster later."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-dashboard"]
    command += ["--nthreads", str(threads), "--host", "127.0.0.1", "--memory-limit", "0"]
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=variables(home), cwd=home.parent, **nowhere) as process:
        try:
            yield
        finally:
            process.terminate()


def started(home: Path, address: str, *more: str) -> subprocess.Popen[bytes]:
    command = [str(ROSITA), *SMOKE, *more, "--cluster", address, "--json"]
    with (home.parent / "said").open("w") as said, (home.parent / "out").open("w") as out:
        return subprocess.Popen(command, env=variables(home), stdout=out, stderr=said)


def ended(process: subprocess.Popen[bytes], home: Path) -> str:
    """What it said until it ended."""
    process.wait(SECONDS)
    return (home.parent / "said").read_text(encoding="utf-8")


def until_saved(process: subprocess.Popen[bytes], home: Path, stage: str) -> None:
    """Wait until the stage has a checkpoint."""
    deadline = time.monotonic() + SECONDS
    while stage not in saved(home):
        assert process.poll() is None, ended(process, home)[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def pruning(client: Client) -> list[str]:
    """Workers that are at a training of setting 1 and have pruned: no other model is so narrow."""
    return [
        worker
        for worker, topics in client.processing().items()
        for topic in topics
        for _, (what, value) in client.get_events(topic)
        if what == "report" and str(value["shape"]).startswith("a2_")
    ]


# The last training of setting 1 is then long enough to be stopped in.
LONG = ("--only", "kd_setting=1", "--set=width.epochs=40")


def test_stopped_it_saves_and_goes_on(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with cluster(home, workers=2, threads=1) as address:
        process = started(home, address, *LONG)
        until_saved(process, home, "one-step")
        process.send_signal(signal.SIGTERM)
        said = ended(process, home)
        assert process.returncode == 128 + signal.SIGTERM, said[-3000:]
        left = [record for stage in catalogue() for record in attempts(home, stage)]
        stopped = [record for record in left if record["status"] == "interrupted"]
        assert stopped, said[-3000:]
        # The workers live on, and what they were at goes on from its checkpoint.
        process = started(home, address, *LONG)
        said = ended(process, home)
        assert process.returncode == 0, said[-3000:]
    made = completed(home)
    document = json.loads((tmp_path / "out").read_text(encoding="utf-8"))
    assert document["stages"]["distinct"] == len(made) == len({record["key"] for record in made})
    again = {record["key"] for record in stopped if record["stage"] == "one-step"}
    assert again
    assert all(record["resumed_from"] for record in made if record["key"] in again)


def test_a_worker_is_killed_and_the_flow_is_killed(tmp_path: Path) -> None:
    """Artifacts are those of a grid to which nothing happened; nothing is computed twice."""
    home, undisturbed = tmp_path / "home", tmp_path / "other" / "home"
    home.mkdir()
    undisturbed.mkdir(parents=True)
    with cluster(home, workers=2, threads=1) as address:
        process = started(home, address, *LONG)
        until_saved(process, home, "one-step")
        with Client(address, timeout=60) as client:
            while not (busy := pruning(client)):
                assert process.poll() is None, ended(process, home)[-3000:]
            [pid] = client.run(os.getpid, workers=busy[:1]).values()
        # Its nanny, the operator's, starts another one.
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + SECONDS
        while sum(r["status"] == "failed" for r in attempts(home, "one-step")) < 1:
            assert time.monotonic() < deadline
            assert process.poll() is None, ended(process, home)[-3000:]
            time.sleep(0.1)
        process.kill()
        process.wait()
        # What still computes for the flow that is gone saves and stops.
        with Client(address, timeout=60) as client:
            while any(client.run(can_save).values()):
                assert time.monotonic() < deadline
                time.sleep(0.2)
        process = started(home, address, *LONG)
        said = ended(process, home)
        assert process.returncode == 0, said[-3000:]
        process = started(undisturbed, address, *LONG)
        said = ended(process, undisturbed)
        assert process.returncode == 0, said[-3000:]
    made = completed(home)
    assert len(made) == len({record["key"] for record in made})
    timed = {kind.name for kind in catalogue().values() if kind.timed} | {"export"}
    digests = [
        {r["key"]: r["result"]["artifact"] for r in completed(place) if r["stage"] not in timed}
        for place in (home, undisturbed)
    ]
    assert digests[0] == digests[1]


def test_a_worker_that_joins_later_and_does_not_fit_is_given_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with cluster(home, workers=1, threads=1) as address:
        process = started(home, address, *LONG)
        until_saved(process, home, "one-step")
        with another_worker(home, address, threads=2):
            deadline = time.monotonic() + SECONDS
            rule = "a worker that came is given no stage: workers must have one thread each"
            while rule not in (tmp_path / "said").read_text(encoding="utf-8"):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
            said = ended(process, home)
        assert process.returncode == 0, said[-3000:]
        assert said.count(rule) == 1


def test_a_worker_is_stopped_by_the_flow_whose_stage_it_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several flows may use one cluster."""
    monkeypatch.setattr("tasks.execution.worker._topic", "rosita-mine")
    with able_to_save():
        try:
            assert not ask_to_stop(("rosita-other",))
            assert not stop_requested()
            assert ask_to_stop(("rosita-other", "rosita-mine"))
            assert stop_requested()
        finally:
            forget_signals()


def test_a_cluster_that_cannot_run_the_grid_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with cluster(home, workers=1, threads=2) as address:
        wrong = rosita(*SMOKE, "--cluster", address, home=home)
        assert wrong.code == 2
        assert "workers must have one thread each (--nthreads 1)" in wrong.stderr.splitlines()[-1]
    with cluster(home, workers=1, threads=1) as address:
        wrong = rosita(*SMOKE, "--set=numerics.processes=2", "--cluster", address, home=home)
        assert wrong.code == 2, wrong.stderr
        last = wrong.stderr.splitlines()[-1]
        assert "numerics.processes must be at most 1, the GPUs of the largest worker" in last
    with cluster(home, workers=1, threads=1) as address:
        wrong = rosita(*SMOKE, "--cluster", address, "--workers", "2", home=home)
        assert f"workers must be left to the cluster at {address}, got 2" in wrong.stderr
    assert completed(home) == []
    wrong = rosita(*SMOKE, "--cluster", "host:8786", home=home)
    assert (wrong.code, "cluster must be the address" in wrong.stderr) == (2, True)
