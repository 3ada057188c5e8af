"""A server that can start commands answers this machine's user alone."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from browser import launched, needs_browser
from playwright.sync_api import expect
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from serving import Serving, free_ports, serving
from typed_command import ROSITA, Home, environment

from flows.engine.pages import prefect_page
from flows.services.worker import POOL

pytestmark = pytest.mark.deployments

PATHS = ("/", "/runs", "/ui-settings", "/api/flow_runs/filter", "/api/admin/version", "/api/docs")
ATTACK = """<!doctype html><title>elsewhere</title><p id="said">nothing</p><script>
const tries = ["no-cors", "cors"].map(mode =>
  fetch("%s/api/variables/", {method: "POST", mode, credentials: "include",
    headers: {"Content-Type": mode === "cors" ? "application/json" : "text/plain"},
    body: JSON.stringify({name: "attacked", value: mode})})
  .then(answer => mode + " " + answer.status, () => mode + " kept away"));
const socket = new Promise(done => {
  const there = new WebSocket("%s/api/events/out", ["prefect"]);
  there.onopen = () => done("socket open");
  there.onerror = () => done("socket kept away");
});
Promise.all([...tries, socket])
  .then(all => document.getElementById("said").textContent = all.join());
</script>"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("guarded")
    return Home(folder / "home", folder / "prefect", {})


@pytest.fixture(scope="module")
def server(home: Home) -> Iterator[Serving]:
    with serving(home, "--worker", "--no-mlflow") as running:
        yield running


@pytest.fixture
def password(home: Home) -> tuple[str, str]:
    name, _, word = (home.home / "prefect" / "password").read_text().strip().partition(":")
    return name, word


def status(server: Serving, path: str, **request: Any) -> int:
    return httpx.get(f"{server.url('prefect')}{path}", **request).status_code


def test_the_password_is_in_a_private_file_and_in_no_output_that_is_kept(
    server: Serving, home: Home, password: tuple[str, str]
) -> None:
    path = home.home / "prefect" / "password"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(password[1]) >= 32
    assert password[1] not in server.printed
    assert f'export PREFECT_API_AUTH_STRING="$(cat {path})"' in server.printed
    for log in (home.home / "logs").iterdir():
        assert password[1] not in log.read_text(), log
    for process in subprocess.check_output(["ps", "-eo", "args"], text=True).splitlines():
        assert password[1] not in process


def test_a_link_is_for_a_flow_run_that_it_has(
    server: Serving, password: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for the password before it looks whether there is one."""
    api = f"{server.url('prefect')}/api"
    made = httpx.post(
        f"{api}/flow_runs/", auth=password, json={"flow_id": flow_id(api, password), "name": "a"}
    )
    assert made.status_code == 201, made.text
    run, other = made.json()["id"], str(uuid4())
    with temporary_settings({PREFECT_API_URL: api}):
        assert prefect_page(tmp_path, run) is None
    with temporary_settings({PREFECT_API_URL: api, PREFECT_API_AUTH_STRING: ":".join(password)}):
        assert prefect_page(tmp_path, other) is None
        assert prefect_page(tmp_path, run) == f"{server.url('prefect')}/runs/flow-run/{run}"


def flow_id(api: str, password: tuple[str, str]) -> str:
    made = httpx.post(f"{api}/flows/", auth=password, json={"name": "linked"})
    assert made.status_code in (200, 201), made.text
    known: str = made.json()["id"]
    return known


def test_a_terminal_shows_the_password(tmp_path: Path) -> None:
    place = Home(tmp_path / "home", tmp_path / "prefect", {})
    leader, follower = pty.openpty()
    [port] = free_ports(1)
    process = subprocess.Popen(
        [str(ROSITA), "ui", "--worker", "--no-mlflow", "--prefect-port", str(port)],
        env=environment(place.home, place.prefect),
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=subprocess.DEVNULL,
    )
    os.close(follower)
    try:
        said = b""
        while b"Ctrl-C stops" not in said:
            said += os.read(leader, 4096)
        word = (place.home / "prefect" / "password").read_bytes().strip()
        assert said.count(word) == 1
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("path", PATHS)
def test_foreign_names_and_pages_are_refused(
    server: Serving, password: tuple[str, str], path: str
) -> None:
    port = server.ports["prefect"]
    for headers in (
        {"Host": f"elsewhere.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Host": f"127.0.0.1:{port + 1}"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": f"http://127.0.0.1:{port + 1}"},
        {"Origin": "null"},
    ):
        assert status(server, path, headers=headers) == 403, headers
        assert status(server, path, headers=headers, auth=password) == 403, headers


def test_without_its_password_the_api_answers_nothing_but_that_it_is_up(
    server: Serving, password: tuple[str, str]
) -> None:
    assert status(server, "/api/health") == status(server, "/api/ready") == 200
    assert status(server, "/api/health", headers={"Host": "elsewhere.example"}) == 200
    for path in (path for path in PATHS if path.startswith("/api/")):
        assert status(server, path) == 401
        assert status(server, path, auth=(password[0], "wrong")) == 401
    created = httpx.post(f"{server.url('prefect')}/api/variables/", json={"name": "x", "value": 1})
    assert created.status_code == 401
    own = {"Origin": server.url("prefect")}
    assert status(server, "/api/admin/version", auth=password, headers=own) == 200


def test_a_request_chooses_no_command(server: Serving, password: tuple[str, str]) -> None:
    api = f"{server.url('prefect')}/api"
    pool = httpx.get(f"{api}/work_pools/{POOL}", auth=password).json()
    assert list(pool["base_job_template"]["variables"]["properties"]) == ["name"]
    assert pool["base_job_template"]["job_configuration"]["command"] is None


@needs_browser
def test_a_page_of_elsewhere_in_a_browser_changes_nothing(
    server: Serving, password: tuple[str, str], tmp_path: Path
) -> None:
    prefect = server.url("prefect")
    text = ATTACK % (prefect, prefect.replace("http", "ws"))
    (tmp_path / "index.html").write_text(text)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        with launched() as browser:
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{elsewhere.server_port}/")
            expect(page.locator("#said")).to_have_text("no-cors 0,cors kept away,socket kept away")
        elsewhere.shutdown()
    found = httpx.post(f"{prefect}/api/variables/filter", json={}, auth=password)
    assert found.json() == []


@needs_browser
def test_prefects_page_asks_for_the_password(server: Serving, password: tuple[str, str]) -> None:
    with launched() as browser:
        page = browser.new_page()
        page.goto(f"{server.url('prefect')}/work-pools")
        field = page.get_by_role("textbox").first
        field.fill(":".join(password))
        field.press("Enter")
        page.goto(f"{server.url('prefect')}/work-pools")
        expect(page.get_by_text(POOL, exact=True).first).to_be_visible()
