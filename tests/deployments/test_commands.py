"""`rosita schedule` and `rosita ui --worker` as an operator types them."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest
from deployed_stack import ROOT, SETTINGS, until
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect_server import PrefectServer, connected
from processes import listening, lives, words
from serving import is_free, serving
from typed_command import ROSITA, Home, environment

from flows.services.servers import OF_A_RUN
from flows.services.work_pool import job_template, prepare_work_pool
from tasks.cache.records import attempts

pytestmark = pytest.mark.deployments


def test_a_schedule_from_a_laptop_starts_all_it_needs_and_ends_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings = [f"--set={change}" for change in SETTINGS]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [str(ROSITA), "schedule", "smoke", "--interval", "5", *settings],
            cwd=tmp_path,
            env=environment(home, tmp_path / "prefect"),
            stdout=said,
            stderr=said,
        )
    log = tmp_path / "said"
    try:
        runs = home / "runs"
        # Nobody is there to start it: the second run comes by itself, too.
        until(
            lambda: len(list(runs.glob("*/summary.json"))) >= 2, "two scheduled runs", log.read_text
        )
        found = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
        assert listening(found) == {"127.0.0.1"}
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(90)
    text = log.read_text()
    assert code == 0, text[-3000:]
    assert re.search(r"compress/smoke runs next at \d{4}-", text)
    assert text.rstrip().endswith("stopped")
    assert len(attempts(home, "width")) == 1, "the second run takes it from the cache"
    # Helpers of Python's own end a moment after the process whose pipe they read.
    _, left = psutil.wait_procs(found, timeout=5)
    assert not [child for child in left if lives(child)]


def test_a_schedule_says_that_its_server_is_gone(tmp_path: Path) -> None:
    log = tmp_path / "said"
    with log.open("w") as said:
        process = subprocess.Popen(
            [str(ROSITA), "schedule", "smoke", "--interval", "600"],
            cwd=tmp_path,
            env=environment(tmp_path / "home", tmp_path / "prefect"),
            stdout=said,
            stderr=said,
        )
    until(lambda: "runs next" in log.read_text(), "the schedule", log.read_text)
    # Whoever may ask it can start commands of this user.
    [address] = re.findall(r"^Prefect: (http://\S+)$", log.read_text(), re.M)
    asked = f"{address}/api/admin/version"
    assert httpx.get(asked).status_code == 401
    name, _, word = (tmp_path / "home" / "prefect" / "password").read_text().strip().partition(":")
    assert httpx.get(asked, auth=(name, word)).status_code == 200
    children = psutil.Process(process.pid).children()
    [server] = [child for child in children if "flows.services.held" in words(child)]
    # Else nothing would make the runs that are due.
    assert OF_A_RUN not in words(server)
    server.kill()
    assert process.wait(180) == 1
    assert "does not answer any more" in log.read_text().splitlines()[-1]


def test_a_pool_of_another_kind_stays_as_it_is(prefect: PrefectServer) -> None:
    template = job_template()
    template["variables"]["properties"]["image"] = {"type": "string"}
    with connected(prefect.api), get_client(sync_client=True) as client:
        client.create_work_pool(
            WorkPoolCreate(name="k8s", type="kubernetes", base_job_template=template)
        )
        message = r"^pool must be a work pool of type process, got 'k8s' of type kubernetes$"
        with pytest.raises(ValueError, match=message):
            prepare_work_pool(prefect.api, "k8s")
        assert client.read_work_pool("k8s").base_job_template == template
        assert [queue.name for queue in client.read_work_queues("k8s")] == ["default"]


def test_a_worker_beside_the_servers_starts_and_stops_with_them(tmp_path: Path) -> None:
    place = Home(tmp_path / "home", tmp_path / "prefect", {})
    with serving(place, "--worker") as running:
        assert "a worker takes runs from the work pool rosita" in running.printed
        children = psutil.Process(running.process.pid).children(recursive=True)
        assert any("worker" in words(child) for child in children)
        assert listening(children) == {"127.0.0.1"}
        of_server = {
            "PREFECT_API_URL": f"{running.url('prefect')}/api",
            "PREFECT_API_AUTH_STRING": (place.home / "prefect" / "password").read_text().strip(),
        }
        done = subprocess.run(
            [str(ROSITA.with_name("prefect")), "work-pool", "inspect", "rosita"],
            cwd=ROOT,
            env=environment(place.home, place.prefect, of_server),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "READY" in done.stdout
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(30) == 0
    assert all(is_free(port) for port in running.ports.values())
    assert not [child for child in children if lives(child)]
