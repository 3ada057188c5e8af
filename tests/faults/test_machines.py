"""Machines, each with a home of its own, on one shared store: as several runs on one home."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from faulty import COMPUTED, STAGES, FaultyHome, hold_at
from prefect_server import PrefectServer

LEASE_SECONDS = 3


pytestmark = [pytest.mark.deployments]


def machines(
    tmp_path: Path, prefect: PrefectServer
) -> tuple[FaultyHome, FaultyHome, dict[str, str]]:
    """Two homes, and the variables of their commands."""
    made = []
    for name in ("one", "two"):
        place = FaultyHome(tmp_path / name / "home", prefect.home, prefect.api)
        place.home.mkdir(parents=True)
        made.append(place)
    env = {
        "ROSITA_STORE": f"file://{tmp_path}/shared",
        "ROSITA_STORE_LEASE_SECONDS": str(LEASE_SECONDS),
    }
    return made[0], made[1], env


def test_a_machine_is_killed_and_another_goes_on(
    prefect: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits for the first, takes over from its checkpoint; the first then fetches."""
    one, two, env = machines(tmp_path, prefect)
    flag = tmp_path / "go-on"
    shared = tmp_path / "shared"
    first = one.start_compress(faults=[hold_at("width", 5, flag)], env=env)
    first.until_held(flag)
    first.until(lambda: any(shared.glob("checkpoints/*/*/about.json")))
    second = two.start_compress(env=env)
    second.until_said("stage width is running on ")
    assert "student: its result was fetched from file://" in second.said()
    first.kill()
    assert first.done().code == 128 + signal.SIGKILL
    done = second.done()
    assert "stage width was left unfinished by " in done.stderr
    assert "width: a checkpoint after 4 steps was fetched from file://" in done.stderr
    assert two.resumed_from("width") == [4]
    computed = [stage for stage, status in done.statuses().items() if status == "completed"]
    assert computed == ["width", "assess", "export"]
    again = one.compress(env=env)
    assert set(again.statuses().values()) == {"cached"}
    assert again.summary["stages"] == [s | {"status": "cached"} for s in done.summary["stages"]]
    # The attempt that was killed is the only one here.
    assert [len(one.attempts(stage)) for stage in COMPUTED] == [1] * len(COMPUTED)
    assert [len(two.attempts(stage)) for stage in STAGES] == [0] * 5 + [1] * 3
    assert not list(shared.glob("checkpoints/*/*"))
    # A third machine sees all of it without touching anything.
    third = FaultyHome(tmp_path / "three" / "home", prefect.home, prefect.api)
    monkeypatch.setenv("ROSITA_STORE", env["ROSITA_STORE"])
    assert {stage["status"] for stage in third.plan().values()} == {"cached"}
    assert not third.home.exists()
