"""Prefect's server goes away in the middle of a run; nothing that was computed is lost."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty import STAGES, Done, FaultyHome, hold_at, raising
from prefect_server import PrefectServer

MakeHome = Callable[[str | None], FaultyHome]

# The default waits for a server for two minutes, in which most are there again.
IMPATIENT = {"PREFECT_CLIENT_MAX_RETRIES": "1"}
INCOMPLETE = "rosita: Prefect's server does not take what this run tells it; the run goes on"
WEAK = "the teacher is not better than chance"
LOST = "Prefect was not told how it ended (ConnectError: "


@pytest.fixture
def server(prefect: PrefectServer) -> Iterator[PrefectServer]:
    """The server of all tests, which runs again at the end."""
    yield prefect
    if not prefect.running():
        prefect.start()


def assert_nothing_of_prefects_own(done: Done) -> None:
    """Every line is ours: progress, or what the user should know."""
    for line in done.stderr.splitlines():
        assert line.startswith(("[", "rosita: ")), line


def state(server: PrefectServer, run_id: str) -> str:
    """What the server knows of a flow run."""
    with urllib.request.urlopen(f"{server.api}/flow_runs/{run_id}", timeout=60) as response:
        known: str = json.load(response)["state"]["type"]
    return known


def test_stopped_and_started_again(
    home_before: MakeHome, undisturbed: Done, server: PrefectServer, tmp_path: Path
) -> None:
    place, flag = home_before("width"), tmp_path / "go-on"
    run = place.start_compress(faults=[hold_at("width", 5, flag)])
    run.until_held(flag)
    server.kill()
    flag.touch()
    server.start()
    done = run.done()
    assert done.artifacts() == undisturbed.artifacts()
    # Whether an event falls into the gap depends on how soon the server is there again.
    said = [line for line in done.stderr.splitlines() if line.startswith("rosita: ")]
    assert sum(WEAK not in line for line in said) == done.stderr.count(INCOMPLETE) <= 1
    assert_nothing_of_prefects_own(done)
    assert state(server, done.summary["run_id"]) == "COMPLETED"


@pytest.mark.long
def test_away_until_the_end(
    home_before: MakeHome, undisturbed: Done, server: PrefectServer, tmp_path: Path
) -> None:
    """The run is complete and shown; only Prefect's pages do not know it."""
    place, flag = home_before("width"), tmp_path / "go-on"
    run = place.start_compress(faults=[hold_at("width", 5, flag)], env=IMPATIENT)
    run.until_held(flag)
    server.kill()
    flag.touch()
    done = run.done()
    assert done.artifacts() == undisturbed.artifacts()
    assert f"rosita: the run is complete, but {LOST}" in done.stderr
    assert done.stderr.count(INCOMPLETE) == 1
    assert_nothing_of_prefects_own(done)
    path = place.home / "runs" / done.summary["run_id"] / "summary.json"
    assert json.loads(path.read_text(encoding="utf-8")) == done.summary

    server.start()
    again = place.compress()
    assert set(again.statuses().values()) == {"cached"}
    assert [len(place.attempts(stage)) for stage in STAGES] == [1] * len(STAGES)


@pytest.mark.long
def test_away_when_a_stage_fails(
    home_before: MakeHome, server: PrefectServer, tmp_path: Path
) -> None:
    """The error is that of the stage."""
    place, flag = home_before("width"), tmp_path / "go-on"
    broken = raising("rosita_core.stages.assess", "assess", "a mistake")
    run = place.start_compress(faults=[hold_at("width", 5, flag), broken], env=IMPATIENT)
    run.until_held(flag)
    server.kill()
    flag.touch()
    done = run.done()
    assert (done.code, done.stdout) == (1, "")
    said = "rosita: stage assess failed in attempt 1 of recipe smoke: RuntimeError: a mistake; "
    [line] = [line for line in done.stderr.splitlines() if line.startswith(said)]
    assert LOST in line
    assert_nothing_of_prefects_own(done)
    assert [attempt["status"] for attempt in place.attempts("width")] == ["completed"]


@pytest.mark.long
def test_away_from_the_start(home_before: MakeHome) -> None:
    """Nothing is computed that nobody could see."""
    place = home_before("width")
    server = "http://127.0.0.1:9/api"
    done = place.compress(env={"PREFECT_API_URL": server})
    assert (done.code, done.stdout) == (1, "")
    assert done.last_line.startswith(f"rosita: Prefect's server at {server} does not answer: ")
    assert place.attempts("width") == []
