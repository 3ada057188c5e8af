"""What links a run's page at MLflow to that at Prefect and back, in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import PATIENCE_MS, needs_browser, wide_page
from command_line import rosita
from mlflow.tracking import MlflowClient
from playwright.sync_api import Page, expect
from serving import Serving, free_ports, serving
from typed_command import Home

from flows.engine.pages import MLFLOW_PAGES, _answers, mlflow_page, pages, prefect_page
from flows.engine.pages import serving as noted
from tasks.host.environment import PREFECT_HOME

ENDED = "the process that has noted it is gone"


@dataclass(frozen=True)
class Linked:
    """A run in a home that `rosita ui` serves.

    Attributes:
        home: of the run.
        servers: of the home.
        printed: by the command.
        run, flow_run: its ids at MLflow and at Prefect.
    """

    home: Path
    servers: Serving
    printed: str
    run: str
    flow_run: str


@pytest.fixture(scope="module")
def linked(smoke_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Linked]:
    folder = tmp_path_factory.mktemp("linked") / "home"
    shutil.copytree(smoke_home.home, folder)
    for path in folder.rglob("*"):
        path.chmod(path.stat().st_mode | 0o200)
    home = Home(folder, folder / "prefect", smoke_home.summary)
    with serving(home) as servers:
        api = {"PREFECT_API_URL": f"{servers.url('prefect')}/api"}
        done = home.run("compress", "--recipe", "smoke", env=api)
        assert done.returncode == 0, done.stderr[-3000:]
        [run] = re.findall(r"MLflow run: +(\w+)", done.stdout)
        [flow_run] = re.findall(r"summary: .*/runs/([\w-]+)/", done.stdout)
        yield Linked(folder, servers, done.stdout, run, flow_run)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with wide_page() as page:
        yield page


def opened(page: Page, link: str) -> Page:
    """What a link opens, in a tab of its own."""
    with page.context.expect_page() as tab:
        page.get_by_role("link", name=link).first.click()
    tab.value.set_default_timeout(PATIENCE_MS)
    return tab.value


def printed(said: str, server: str) -> str:
    [address] = re.findall(rf"^at {server}: +(\S+)$", said, re.MULTILINE)
    return address


@needs_browser
def test_the_printed_addresses_open_the_run(page: Page, linked: Linked) -> None:
    name = "smoke-kd-4-s42"
    assert printed(linked.printed, "MLflow").startswith(linked.servers.url("mlflow"))
    page.goto(printed(linked.printed, "MLflow"))
    expect(page.get_by_role("heading", name=name).first).to_be_visible()
    expect(page.get_by_text(linked.run).first).to_be_visible()
    page.goto(printed(linked.printed, "Prefect"))
    expect(page.get_by_text(name, exact=True).first).to_be_visible()
    expect(page.get_by_text("Completed").first).to_be_visible()
    assert linked.flow_run in page.url
    # There is no need to start what serves the runs.
    assert "rosita ui" not in linked.printed


@needs_browser
def test_the_link_at_prefect_opens_mlflow_and_that_there_comes_back(
    page: Page, linked: Linked
) -> None:
    page.goto(printed(linked.printed, "Prefect"))
    page.get_by_text("Artifacts", exact=True).last.click()
    page.get_by_text("rosita-mlflow", exact=True).first.click()
    mlflow = opened(page, "smoke-kd-4-s42 at MLflow")
    assert mlflow.url.startswith(f"{linked.servers.url('mlflow')}/")
    expect(mlflow.get_by_text(linked.run).first).to_be_visible()
    prefect = opened(mlflow, "Its flow run at Prefect")
    assert prefect.url == printed(linked.printed, "Prefect")
    expect(prefect.get_by_text("smoke-kd-4-s42", exact=True).first).to_be_visible()
    expect(prefect.get_by_text("Completed").first).to_be_visible()
    # Its graph moves, which keeps a core busy.
    for tab in (mlflow, prefect):
        tab.close()


@needs_browser
def test_the_printed_page_of_an_experiment_says_what_it_is_and_shows_scores(
    page: Page, linked: Linked
) -> None:
    [address] = re.findall(r"rosita-smoke: (\S+)", linked.servers.printed)
    page.goto(address)
    for column in ("score", "retention"):
        expect(page.get_by_role("columnheader", name=column).first).to_be_visible()
    expect(page.get_by_text("Models compressed for smoke").first).to_be_visible()
    run = MlflowClient(f"sqlite:///{linked.home / 'mlflow.db'}").get_run(linked.run)
    expect(page.get_by_text(f"{run.data.metrics['score']:.6g}"[:5]).first).to_be_visible()


def test_a_run_of_its_own_server_is_shown_by_those_of_the_home(linked: Linked) -> None:
    """Its Prefect server ends with it, and the home's own shows what that has kept."""
    home = Home(linked.home, linked.home / "prefect", {})
    done = home.run("compress", "--recipe", "smoke")
    assert done.returncode == 0, done.stderr[-3000:]
    [flow_run] = re.findall(r"summary: .*/runs/([\w-]+)/", done.stdout)
    prefect = f"{linked.servers.url('prefect')}/runs/flow-run/{flow_run}"
    assert printed(done.stdout, "Prefect") == prefect
    [run] = re.findall(r"MLflow run: +(\w+)", done.stdout)
    assert printed(done.stdout, "MLflow") == f"{linked.servers.url('mlflow')}/#/runs/{run}"
    client = MlflowClient(f"sqlite:///{linked.home / 'mlflow.db'}")
    assert f"({prefect})" in client.get_run(run).data.tags["mlflow.note.content"]


def test_where_no_server_is_no_address_is_given(
    smoke_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of runs without a server; the temporary one has ended."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    summary = smoke_home.summary
    assert mlflow_page(smoke_home.home, summary["mlflow_run_id"]) is None
    client = MlflowClient(f"sqlite:///{smoke_home.home / 'mlflow.db'}")
    note = client.get_run(summary["mlflow_run_id"]).data.tags["mlflow.note.content"]
    assert "http" not in note


def test_a_server_that_was_too_busy_is_asked_again() -> None:
    [port] = free_ports(1)
    address = f"http://127.0.0.1:{port}/"
    assert not _answers(address)
    with ThreadingHTTPServer(("127.0.0.1", port), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert _answers(address)
        server.shutdown()


@pytest.mark.usefixtures("in_prefect")
def test_a_server_without_pages_gives_no_address(tmp_path: Path) -> None:
    """Prefect makes one of the address of its API, which is a dead end here."""
    from prefect.utilities.urls import url_for

    assert url_for("flow-run", obj_id="a") is not None
    assert prefect_page(tmp_path, "a") is None


def test_a_note_of_a_process_that_is_gone_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv(PREFECT_HOME, str(tmp_path / "prefect"))
    (tmp_path / "mlflow.db").touch()
    with noted(tmp_path, None, "http://127.0.0.1:9"):
        assert mlflow_page(tmp_path, "a") == "http://127.0.0.1:9/#/runs/a"
        # Another MLflow than the one that is served.
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
        assert mlflow_page(tmp_path, "a") is None
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        note = (tmp_path / "servers.json").read_text()
    assert not (tmp_path / "servers.json").exists()
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "servers.json").write_text(
            re.sub(r'"pid": \d+', f'"pid": {other.pid}', note), encoding="utf-8"
        )
        assert mlflow_page(tmp_path, "a") is None, ENDED
        other.kill()
    for damaged in ("{", "[]", note.replace("http://127.0.0.1:9", "javascript:alert(1)")):
        (tmp_path / "servers.json").write_text(damaged, encoding="utf-8")
        assert mlflow_page(tmp_path, "a") is None


def test_a_server_that_is_named_has_the_pages_and_no_password_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example/team/")
    assert mlflow_page(tmp_path, "a") == "https://mlflow.example/team/#/runs/a"
    # Where people find it elsewhere than the machines that record.
    monkeypatch.setenv(MLFLOW_PAGES, "http://localhost:5000")
    assert pages(tmp_path, "a", None) == {"MLflow": "http://localhost:5000/#/runs/a"}
    assert pages(tmp_path, None, None) == {}


def test_an_address_that_is_none_is_a_wrong_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MLFLOW_PAGES, "mlflow:5000")
    done = rosita("compress", "--recipe", "smoke", home=tmp_path / "home")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == (
        f"rosita: {MLFLOW_PAGES} must begin with http:// or https://, got mlflow:5000\n"
    )
    assert not (tmp_path / "home" / "runs").exists()
