"""`rosita grid --cluster`: a Dask cluster started by the command, and one that was there before."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from command_line import rosita
from distributed import Client
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings
from prefect.testing.utilities import prefect_test_harness
from typed_command import ROSITA, environment

from tasks.cache.records import attempts
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


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


def api_url() -> str:
    return str(get_current_settings().api.url)


def variables(home: Path) -> dict[str, str]:
    """Of a process that works in `home` and reports to the test's server."""
    return environment(home, home.parent / "prefect", {"PREFECT_API_URL": api_url()})


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


def ours() -> set[int]:
    """The processes below this one."""
    return {process.pid for process in psutil.Process().children(recursive=True)}


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


def test_a_local_cluster_computes_each_distinct_stage_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    before = ours()
    done = subprocess.run(
        [str(ROSITA), *SMOKE, "--cluster", "local", "--workers", "2", "--json"],
        env=variables(home),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    document = json.loads(done.stdout)
    assert [cell["status"] for cell in document["cells"]] == ["finished"] * 4
    assert document["stages"] == {"distinct": 21, "computed": 21}
    made = completed(home)
    assert len(made) == 21
    assert set(Counter(record["key"] for record in made).values()) == {1}
    # Two processes, neither of which is the command's own.
    assert len({record["pid"] for record in made}) == 2
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
    assert Counter(run.name.partition("/")[0] for run in runs) == {"smoke-grid": 5}
    assert {str(run.state_name) for run in runs} == {"Completed"}
    assert ours() == before


def test_a_cluster_that_was_there_before_saves_when_stopped_and_goes_on(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with cluster(home, workers=2, threads=1) as address:
        # The two cells of setting 1, whose last training is long enough to be stopped in.
        chosen = ("--only", "kd_setting=1", "--set=width.epochs=40")
        command = [str(ROSITA), *SMOKE, *chosen, "--cluster", address, "--json"]
        with (tmp_path / "said").open("w") as said:
            process = subprocess.Popen(command, env=variables(home), stdout=said, stderr=said)
            deadline = time.monotonic() + SECONDS
            while "one-step" not in saved(home):
                assert process.poll() is None, (tmp_path / "said").read_text()[-3000:]
                assert time.monotonic() < deadline
                time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)
        assert process.returncode != 0
        left = [record for stage in catalogue() for record in attempts(home, stage)]
        stopped = [record for record in left if record["status"] == "interrupted"]
        assert stopped, (tmp_path / "said").read_text()[-3000:]
        # The workers live on, and what they were at goes on from its checkpoint.
        done = subprocess.run(
            command, env=variables(home), capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stderr[-3000:]
        document = json.loads(done.stdout)
    made = completed(home)
    assert set(Counter(record["key"] for record in made).values()) == {1}
    assert len(made) == document["stages"]["distinct"]
    resumed = [r for r in made if r["key"] in {s["key"] for s in stopped} and r["resumed_from"]]
    assert resumed


def test_a_cluster_that_cannot_run_the_grid_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    elsewhere = tmp_path / "elsewhere" / "home"
    elsewhere.mkdir(parents=True)
    monkeypatch.setenv("PREFECT_API_URL", api_url())
    with cluster(home, workers=1, threads=2) as address:
        wrong = rosita(*SMOKE, "--cluster", address, home=home)
        assert wrong.code == 2
        assert "workers must have one thread each (--nthreads 1)" in wrong.stderr.splitlines()[-1]
    with cluster(home, workers=1, threads=1) as address:
        wrong = rosita(*SMOKE, "--set=numerics.processes=2", "--cluster", address, home=home)
        assert wrong.code == 2, wrong.stderr
        last = wrong.stderr.splitlines()[-1]
        assert "numerics.processes must be at most 1, the GPUs of the largest worker" in last
    with cluster(elsewhere, workers=1, threads=1) as address:
        wrong = rosita(*SMOKE, "--cluster", address, home=home)
        assert wrong.code == 2
        last = wrong.stderr.splitlines()[-1]
        assert last.startswith("rosita: ROSITA_HOME must be the same folder on all machines, got")
        wrong = rosita(*SMOKE, "--cluster", address, "--workers", "2", home=home)
        assert f"workers must be left to the cluster at {address}, got 2" in wrong.stderr
    assert completed(home) == []
    wrong = rosita(*SMOKE, "--cluster", "host:8786", home=home)
    assert (wrong.code, "cluster must be local or the address" in wrong.stderr) == (2, True)


def test_without_one_prefect_server_for_all_nothing_starts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = subprocess.run(
        [str(ROSITA), *SMOKE, "--cluster", "tcp://127.0.0.1:8786"],
        env=environment(home, tmp_path / "prefect"),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "rosita: PREFECT_API_URL must be set for --cluster tcp://127.0.0.1:8786, so that all "
        "workers talk to one Prefect server, got none"
    )
    assert not home.exists()
    assert os.environ.get("ROSITA_HOME") is None
