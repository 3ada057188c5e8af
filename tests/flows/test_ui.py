"""`rosita ui`: both servers come, show what was recorded, and go together."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from command_line import rosita
from processes import lives
from serving import STOP_SECONDS, Serving, free_ports, is_free, serving
from typed_command import Home

from flows.services.servers import check_ports, last_lines


def ask(url: str, body: dict[str, Any] | None = None, host: str | None = None) -> Any:
    """The JSON that a server answers; POST where there is a body."""
    headers = {"Content-Type": "application/json"} | ({"Host": host} if host else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read().decode()
    return json.loads(text) if text.startswith(("{", "[", "true")) else text


def test_the_addresses_are_printed_and_answer(servers: Serving) -> None:
    assert f"Prefect: {servers.url('prefect')}" in servers.printed
    assert f"MLflow:  {servers.url('mlflow')}" in servers.printed
    assert f"export PREFECT_API_URL={servers.url('prefect')}/api" in servers.printed
    assert ask(f"{servers.url('prefect')}/api/health") is True
    assert ask(f"{servers.url('mlflow')}/health") == "OK"
    # The page talks to this server, whatever the user's own shell says.
    settings = ask(f"{servers.url('prefect')}/ui-settings")
    assert settings["api_url"] == f"{servers.url('prefect')}/api"


def test_mlflow_lists_the_runs_with_their_artifacts(servers: Serving, smoke_home: Home) -> None:
    api = f"{servers.url('mlflow')}/api/2.0/mlflow"
    found = ask(f"{api}/experiments/get-by-name?experiment_name=rosita-smoke")
    experiment = found["experiment"]["experiment_id"]
    listed = ask(f"{api}/runs/search", {"experiment_ids": [experiment], "max_results": 100})
    names = {run["info"]["run_id"]: run["info"]["run_name"] for run in listed["runs"]}
    run_id = smoke_home.summary["mlflow_run_id"]
    assert names[run_id] == "smoke-kd-4-s42"
    assert set(names.values()) - {names[run_id]} == {
        s["name"] for s in smoke_home.summary["stages"]
    }
    files = ask(f"{api}/artifacts/list?run_id={run_id}")["files"]
    assert {"recipe.json", "summary.json"} <= {file["path"] for file in files}
    query = urllib.parse.urlencode({"path": "summary.json", "run_uuid": run_id})
    summary = ask(f"{servers.url('mlflow')}/get-artifact?{query}")
    assert summary["run_id"] == smoke_home.summary["run_id"]


def test_prefect_lists_the_flow_run(servers: Serving, smoke_home: Home) -> None:
    run = ask(f"{servers.url('prefect')}/api/flow_runs/{smoke_home.summary['run_id']}")
    assert (run["name"], run["state_type"]) == ("smoke-kd-4-s42", "COMPLETED")


def test_a_name_that_is_not_this_machine_is_refused(servers: Serving) -> None:
    experiments = f"{servers.url('mlflow')}/api/2.0/mlflow/experiments/get?experiment_id=0"
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(experiments, host="elsewhere.example")
    assert refused.value.code == 403
    local = f"localhost:{servers.ports['mlflow']}"
    assert ask(experiments, host=local)["experiment"]["name"] == "Default"


def test_ctrl_c_stops_both(smoke_home: Home) -> None:
    with serving(smoke_home) as running:
        children = psutil.Process(running.process.pid).children(recursive=True)
        assert len(children) >= 2
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(STOP_SECONDS) == 0
        assert all(is_free(port) for port in running.ports.values())
        assert not [child for child in children if lives(child)]


def test_a_server_that_dies_takes_the_other_along(smoke_home: Home) -> None:
    with serving(smoke_home, "--no-prefect") as running:
        assert "Prefect" not in running.printed
        [mlflow] = psutil.Process(running.process.pid).children()
        children = mlflow.children(recursive=True)
        os.kill(mlflow.pid, signal.SIGKILL)
        assert running.process.wait(STOP_SECONDS) == 1
        assert running.process.stdout is not None
        said = running.process.stdout.read()
        assert "rosita: mlflow ended with signal SIGKILL; last lines of" in said
        assert "mlflow.log" in said
        # What it had started itself does not stay behind.
        assert not [child for child in children if lives(child)]


@pytest.mark.parametrize("option", ["--prefect-port", "--mlflow-port"])
def test_a_taken_port_is_a_wrong_request(option: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = rosita("ui", option, port, home=tmp_path / "home")
    assert (done.code, done.stdout) == (2, "")
    assert f"{option[2:].replace('-', '_')} must be a free port of 127.0.0.1, got {port}" in (
        done.stderr
    )
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("ports", "message"),
    [
        ({"prefect_port": 0}, r"prefect_port must be in \[1, 65535\], got 0"),
        ({"mlflow_port": 65536}, r"mlflow_port must be in \[1, 65535\], got 65536"),
        ({"prefect_port": 7, "mlflow_port": 7}, "must differ from mlflow_port, got 7 for both"),
    ],
)
def test_ports_that_cannot_be(ports: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_ports(ports)


def test_a_port_is_free_again_after_its_server_is_gone() -> None:
    [port] = free_ports(1)
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            accepted.close()
    check_ports({"prefect_port": port})


def test_nothing_to_start(tmp_path: Path) -> None:
    done = rosita("ui", "--no-prefect", "--no-mlflow", home=tmp_path)
    assert done.code == 2
    assert "at least one server must be started" in done.stderr


def test_the_last_lines_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"\xff\n" * 20000 + b"almost\n\n  the end \n")
    assert last_lines(log).endswith("almost | the end")
    assert len(last_lines(log)) < 200
    log.write_bytes(b"")
    assert last_lines(log) == "(nothing)"
