"""Servers that a command starts: they end with it, and one that cannot start says why."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from command_line import rosita
from serving import free_ports, is_free
from typed_command import Home, RunRosita

from flows.maintenance.doctor_services import WARNING, check_processes
from flows.services.servers import (
    ServerError,
    free_port,
    held,
    prefect_server,
    running,
    wait_until_ready,
)
from tasks.host.environment import keep_prefect_in, prepare_environment

SECONDS = 30.0
WITH_A_SERVER = """
import sys, time
from pathlib import Path
from flows.services.servers import Server, held, running
port, log = int(sys.argv[1]), Path(sys.argv[2])
command = held(("http.server", str(port), "--bind", "127.0.0.1"))
with running([Server("files", port, command, {}, "/", log)]):
    print("runs", flush=True)
    time.sleep(60)
"""
BEGUN = """
import json, sys
from pathlib import Path
import psutil
from flows.services.run_server import begin_api, reachable_api

def children():
    return len(psutil.Process().children())

begin_api(Path(sys.argv[1]))
print(json.dumps([children(), "prefect" in sys.modules]))
if sys.argv[2:]:
    print(json.dumps([reachable_api(Path(sys.argv[1])), children()]))
"""


def wait_for(moment: bool, port: int) -> None:
    deadline = time.monotonic() + SECONDS
    while is_free(port) is not moment:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_ends_with_a_command_that_is_killed(tmp_path: Path) -> None:
    [port] = free_ports(1)
    with subprocess.Popen(
        [sys.executable, "-c", WITH_A_SERVER, str(port), str(tmp_path / "log")],
        stdout=subprocess.PIPE,
    ) as command:
        assert command.stdout is not None
        command.stdout.readline()
        wait_for(False, port)
        command.send_signal(signal.SIGKILL)
    wait_for(True, port)


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_a_schedule_ends_where_its_server_does(
    tmp_path: Path, handler: signal.Handlers, request: pytest.FixtureRequest
) -> None:
    """Also in the background of a script, where Ctrl-C is ignored."""
    from flows.services.schedule import ended_without

    before = signal.signal(signal.SIGINT, handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    (tmp_path / "health").touch()
    port = free_port()
    command = held(("http.server", str(port), "--directory", str(tmp_path)))
    url = f"http://127.0.0.1:{port}/health"
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as server:
        wait_for(False, port)
        with ended_without(url, "here", seconds=0.5):
            time.sleep(1.5)
        server.kill()
    began = time.monotonic()
    with (
        pytest.raises(ServerError, match=r"^Prefect's server at here does not answer any more"),
        ended_without(url, "here", seconds=0.5),
    ):
        time.sleep(SECONDS)
    assert time.monotonic() - began < SECONDS
    assert signal.getsignal(signal.SIGINT) == handler


def test_a_client_that_finds_no_server_ends_a_schedule_as_well() -> None:
    from flows.services.schedule import ended_without

    url = f"http://127.0.0.1:{free_port()}/health"
    with (
        pytest.raises(ServerError, match=r"^Prefect's server at here does not answer any more"),
        ended_without(url, "here"),
    ):
        httpx.get(url)


def test_doctor_names_a_server_without_its_command() -> None:
    command = list(held(("http.server", str(free_port()))))
    nobody = command.index(str(os.getpid()))
    command[nobody] = "0"
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as left:
        deadline = time.monotonic() + SECONDS
        # Another one of an aborted command may be there as well.
        while f"`kill {left.pid}`" not in (found := check_processes()).detail:
            assert time.monotonic() < deadline
        assert left.stdin is not None
        left.stdin.close()
    assert found.status == WARNING


def test_the_server_of_a_run_takes_runs_and_has_no_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    server = prefect_server(free_port(), tmp_path, of_a_run=True)
    with running([server]) as processes:
        wait_until_ready([server], processes, threading.Event())
        flow = httpx.post(f"{server.url}/api/flows/", json={"name": "one"}).json()
        asked = {"name": "run", "flow_id": flow["id"], "state": {"type": "RUNNING"}}
        assert httpx.post(f"{server.url}/api/flow_runs/", json=asked).status_code == 201
        assert httpx.get(server.url).status_code == 404
        kinds = httpx.post(f"{server.url}/api/block_types/filter", json={}).json()
    assert kinds == []


def begun(place: Path, *names: str, **said: str) -> list[list[object]]:
    """What BEGUN prints, run where the database of a home is."""
    (place / "home" / "prefect").mkdir(parents=True)
    (place / "home" / "prefect" / "prefect.db").touch()
    without = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", BEGUN, str(place / "home"), *names],
        env=without | {"PREFECT_HOME": str(place / "home" / "prefect")} | said,
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_server_of_a_run_starts_before_prefect_is_imported(tmp_path: Path) -> None:
    assert begun(tmp_path) == [[1, False]]


def test_no_server_starts_beside_the_users_own(tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text('active = "x"\n[profiles.x]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n')
    assert begun(tmp_path, PREFECT_PROFILES_PATH=str(profiles)) == [[0, True]]


def test_a_server_that_was_not_needed_ends(tmp_path: Path) -> None:
    """One that a file of the working directory names is known once Prefect is imported."""
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "health").touch()
    port = free_port()
    (tmp_path / "prefect.toml").write_text(f'[api]\nurl = "http://127.0.0.1:{port}/api"\n')
    command = held(("http.server", str(port), "--directory", str(tmp_path)))
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as users:
        wait_for(False, port)
        said = begun(tmp_path, "reachable")
        users.kill()
    assert said == [[1, False], [f"http://127.0.0.1:{port}/api", 0]]


def test_a_database_of_a_newer_version_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    (tmp_path / "prefect").mkdir()
    database = sqlite3.connect(tmp_path / "prefect" / "prefect.db")
    with database:
        database.execute("create table alembic_version (version_num text)")
        database.execute("insert into alembic_version values ('ffffffffffff')")
    database.close()
    server = prefect_server(free_port(), tmp_path)
    with (
        running([server]) as processes,
        pytest.raises(ServerError, match=r"^prefect ended .*by another version of Prefect; name"),
    ):
        wait_until_ready([server], processes, threading.Event())


def test_a_proxy_is_not_asked_for_loopback(copied_home: Home, in_own_process: RunRosita) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    env = {"HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": "intern", "no_proxy": "intern"}
    done = in_own_process("compress", "--recipe", "smoke", home=copied_home.home, env=env)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("", "127.0.0.1,localhost,::1"),
        ("intern, localhost", "intern,localhost,127.0.0.1,::1"),
        ("*", "*"),
    ],
)
def test_what_goes_past_a_proxy(said: str, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", said)
    prepare_environment()
    assert os.environ["NO_PROXY"] == kept
    assert os.environ.get("no_proxy") in (None, kept)


def test_the_runs_of_a_home_are_in_it(smoke_home: Home) -> None:
    assert (smoke_home.home / "prefect" / "prefect.db").is_file()


@pytest.mark.parametrize("name", ["PREFECT_HOME", "PREFECT_API_URL"])
def test_prefect_has_a_place_of_its_own_where_it_is_said(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("PREFECT_HOME", "PREFECT_API_URL", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    profiles = tmp_path / ".prefect" / "profiles.toml"
    profiles.parent.mkdir()
    profiles.touch()
    with monkeypatch.context() as said:
        said.setenv(name, "http://127.0.0.1:9/api")
        before = dict(os.environ)
        keep_prefect_in(tmp_path / "home")
        assert dict(os.environ) == before
    monkeypatch.setenv("PREFECT_PROFILES_PATH", "")
    monkeypatch.delenv("PREFECT_PROFILES_PATH")
    keep_prefect_in(tmp_path / "home")
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "home" / "prefect")
    # What the user has set by profiles still counts.
    assert os.environ["PREFECT_PROFILES_PATH"] == str(profiles)


def test_a_hub_that_does_not_answer_is_named_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    from flows.engine import hub

    monkeypatch.setattr(hub, "HUB_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        began = time.monotonic()
        changes = ("--set", "teacher.model=someone/some-model")
        done = rosita("compress", "--recipe", "smoke", *changes, home=tmp_path / "home")
        assert time.monotonic() - began < SECONDS
    assert done.code == 2
    assert f"; the hub at {constants.ENDPOINT} is silent: " in done.stderr
    assert constants.HF_HUB_OFFLINE is False
    assert not (tmp_path / "home").exists()
