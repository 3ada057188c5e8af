"""Runs of what is deployed: from the API, on schedule, refused, cancelled, killed, shared."""

from __future__ import annotations

import datetime
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from deployed_stack import LOST_AFTER, SETTINGS, Stack, Worker, hold_at, is_held, smoke, until
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import AwaitingRetry, Cancelling
from processes import listening

from flows.services.work_pool import TRAINING_QUEUE, job_template, prepare_work_pool
from flows.services.worker import POOL
from tasks.cache.records import attempts

pytestmark = pytest.mark.deployments

BEFORE_STUDENT = ("data", "teacher", "augment")


def statuses(summary: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["status"] for stage in summary["stages"]}


def resumed(stack: Stack, stage: str, seed: int) -> list[tuple[str, int | None]]:
    """How each attempt of a stage of a seed ended, and where it went on from."""
    return [
        (made["status"], made.get("resumed_from"))
        for made in attempts(stack.home, stage)
        if made["components"]["config"]["training"]["seed"] == seed
    ]


def held(stack: Stack, worker: Worker, flag: Path, seed: int) -> UUID:
    """A run that waits in the fifth step of the student."""
    run = stack.run("compress/nightly", smoke(seed=seed))
    until(lambda: is_held(flag), "the run to be held", worker.said)
    return run


def test_what_the_server_knows_after_deploying(stack: Stack) -> None:
    prepare_work_pool(stack.api)
    with stack.client() as client:
        names = {f"{d.name}" for d in client.read_deployments()}
        assert names == {"try", "nightly", "weekly", "stage"}
        nightly = client.read_deployment_by_name("compress/nightly")
        assert [s.active for s in nightly.schedules] == [False]
        assert nightly.enforce_parameter_schema
        queue = client.read_work_queue_by_name(TRAINING_QUEUE, work_pool_name=POOL)
        assert queue.concurrency_limit == 1
        # Made once, whoever comes next, and by whichever way.
        assert client.read_work_pool(POOL).base_job_template == job_template()
        assert {made.trigger.within.total_seconds() for made in client.read_automations()} == {
            *(LOST_AFTER, 20)
        }
        assert len(client.read_automations()) == 2


def test_run_from_the_api_with_changed_parameters(stack: Stack) -> None:
    with stack.worker("first") as worker:
        run = stack.run("compress/nightly", smoke(seed=1, keep_heads=1))
        assert stack.wait(run, "Running").name == "smoke-kd-4-s1"
        everything = [*psutil.Process(stack.process.pid).children(recursive=True)]
        assert listening([*everything, *worker.everything()]) == {"127.0.0.1"}
        assert f"{stack.api} asks nobody for a password" in worker.said()
        done = stack.wait(run, "Completed", "Failed", "Crashed")
    assert done.state is not None and done.state.is_completed(), worker.said()[-4000:]
    summary = stack.summary(run)
    assert summary["student"]["shape"].startswith("a1_")
    assert set(statuses(summary).values()) == {"completed"}
    with stack.client() as client:
        found = [a for a in client.read_artifacts() if a.flow_run_id == run]
    # On a slow machine stages take long enough for bars, which have no key.
    artifacts = {a.key: a for a in found if a.type != "progress"}
    assert artifacts.keys() == {"rosita-comparison", "rosita-mlflow"}
    assert summary["mlflow_run_id"] in str(artifacts["rosita-mlflow"].data)


def test_wrong_parameters_are_refused_or_fail_once(stack: Stack) -> None:
    for wrong in ({"recipe": "nope"}, {"keep_heads": -1}, {"settings": ["width"]}, {"seed": None}):
        with pytest.raises(PrefectHTTPStatusError, match="Validation failed for field"):
            stack.run("compress/nightly", wrong)
    with stack.worker("first"):
        # What no schema can say is said by the run, which then is not tried again.
        run = stack.run("compress/nightly", smoke(settings=["width.keep_heads=99"]))
        failed = stack.wait(run, "Failed", "Completed", "Crashed")
        assert failed.state is not None
        assert "width.keep_heads must be in [1, 4] for a4_l2_f128_e32, got 99" in str(
            failed.state.message
        )
        assert failed.run_count == 1


def test_runs_come_on_schedule(stack: Stack) -> None:
    with stack.client() as client:
        nightly = client.read_deployment_by_name("compress/nightly")
        parameters = smoke(seed=1, keep_heads=1)
        every = IntervalSchedule(interval=datetime.timedelta(seconds=10))
        [made] = client.create_deployment_schedules(nightly.id, [(every, True)])
        client._client.patch(f"/deployments/{nightly.id}", json={"parameters": parameters})
    try:
        with stack.worker("first"), stack.client() as client:
            completed = FlowRunFilter(
                state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Completed"])),
            )
            deployment = DeploymentFilter(id=DeploymentFilterId(any_=[nightly.id]))

            def scheduled() -> list[UUID]:
                runs = client.read_flow_runs(
                    flow_run_filter=completed, deployment_filter=deployment
                )
                return [run.id for run in runs if run.auto_scheduled]

            until(lambda: bool(scheduled()), "a scheduled run to complete")
            run = scheduled()[0]
            # One run through the queue at a time, so the others wait their turn.
            client.delete_deployment_schedule(nightly.id, made.id)
        assert set(statuses(stack.summary(run)).values()) == {"cached"}
    finally:
        with stack.client() as client:
            client._client.patch(
                f"/deployments/{nightly.id}", json={"parameters": {"recipe": "demo"}}
            )


def test_a_cancelled_run_saves_first_and_is_not_started_again(stack: Stack, tmp_path: Path) -> None:
    flag, seed = tmp_path / "flag", 3
    with stack.worker("holding", hold_at("student", 5, flag)) as worker:
        run = held(stack, worker, flag, seed)
        with stack.client() as client:
            client.set_flow_run_state(run, Cancelling())
        until(lambda: "SIGTERM: saving a checkpoint" in worker.said(), "SIGTERM", worker.said)
        flag.touch()
        stack.wait(run, "Cancelled")
        until(lambda: resumed(stack, "student", seed)[-1][0] == "interrupted", "the attempt's end")
    with stack.worker("first"):
        again = stack.run("compress/nightly", smoke(seed=seed))
        stack.wait(again, "Completed", "Failed", "Crashed")
    assert resumed(stack, "student", seed) == [("interrupted", None), ("completed", 5)]
    until(lambda: "student: goes on from step 5" in stack.logs(again), "the log of the run")
    found = statuses(stack.summary(again))
    assert [found[stage] for stage in BEFORE_STUDENT] == ["cached"] * 3
    states = stack.states(run)
    assert states[states.index("Cancelling") + 1 :] == ["Cancelled"] * states.count("Cancelled")


def test_another_worker_goes_on_where_one_was_killed(stack: Stack, tmp_path: Path) -> None:
    flag, seed = tmp_path / "flag", 4
    with stack.worker("holding", hold_at("student", 5, flag)) as worker:
        run = held(stack, worker, flag, seed)
        worker.kill()
    with stack.worker("second") as second:
        # First nobody says that the run is gone; then nobody says that it lives.
        stack.wait(run, "Completed", "Failed")
        assert f"Flow run 'smoke-kd-4-s{seed}'" in second.said()
    states = stack.states(run)
    assert states[states.index("Running") :][:3] == ["Running", "Crashed", "AwaitingRetry"]
    assert states[-1] == "Completed"
    assert resumed(stack, "student", seed) == [("running", None), ("completed", 4)]
    found = statuses(stack.summary(run))
    assert [found[stage] for stage in BEFORE_STUDENT] == ["cached"] * 3
    assert found["student"] == "completed"


def test_a_worker_that_stops_lets_its_run_save(stack: Stack, tmp_path: Path) -> None:
    flag, seed = tmp_path / "flag", 5
    with stack.worker("holding", hold_at("student", 5, flag)) as worker:
        run = held(stack, worker, flag, seed)
        worker.process.send_signal(signal.SIGTERM)
        until(lambda: "SIGTERM: saving a checkpoint" in worker.said(), "SIGTERM", worker.said)
        assert "1 running: saving before the worker ends" in worker.said()
        flag.touch()
        assert worker.process.wait(60) == 0, worker.said()[-3000:]
    with stack.worker("second"):
        stack.wait(run, "Completed", "Failed")
    assert resumed(stack, "student", seed) == [("interrupted", None), ("completed", 5)]
    assert stack.states(run)[-1] == "Completed"


def test_a_grid_by_its_deployment_computes_each_stage_once_and_reports(stack: Stack) -> None:
    before = {stage: len(attempts(stack.home, stage)) for stage in all_stages(stack)}
    parameters = {
        "grid": "smoke-grid",
        "recipe": "-",
        "settings": list(SETTINGS),
        "seeds": [6],
        "workers": 2,
    }
    with stack.worker("first") as worker:
        run = stack.run("grid/weekly", parameters)
        done = stack.wait(run, "Completed", "Failed", "Crashed", seconds=480)
        assert done.state is not None and done.state.is_completed(), worker.said()[-3000:]
    made = Counter(
        attempt["key"]
        for stage in all_stages(stack)
        for attempt in attempts(stack.home, stage)[before.get(stage, 0) :]
    )
    # Both cells have data, teacher and augment in common.
    assert set(made.values()) == {1}
    cells = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in (stack.home / "grids" / "smoke-grid").glob("*-s6.json")
    ]
    assert len(cells) == 2
    computed = [stage["key"] for cell in cells for stage in cell["stages"] if not stage["cached"]]
    assert len(computed) == len(set(computed)) == len(made)
    with stack.worker("first"):
        reporting = stack.run("report/weekly", {"grid": "smoke-grid"})
        done = stack.wait(reporting, "Completed", "Failed", "Crashed")
    assert done.state is not None and done.state.is_completed(), done.state
    folder = stack.home / "reports" / "smoke-grid"
    assert {path.name for path in folder.iterdir()} >= {"report.md", "report.html", "tables"}
    with stack.client() as client:
        keys = {a.key for a in client.read_artifacts() if a.flow_run_id == reporting}
    assert "rosita-report" in keys


def all_stages(stack: Stack) -> list[str]:
    return [path.name for path in (stack.home / "attempts").glob("*")]


def test_one_stage_again_by_its_deployment(stack: Stack) -> None:
    parameters = {"recipe": "smoke", "settings": [*SETTINGS, "seed=1", "width.keep_heads=1"]}
    with stack.worker("first"):
        # From the cache, where another test has computed it.
        stack.wait(stack.run("compress/nightly", smoke(seed=1, keep_heads=1)), "Completed")
        before = len(attempts(stack.home, "width"))
        form = {**parameters, "stage": "width", "scope": "only"}
        run = stack.run("rerun/stage", form, name="lena-first-try")
        done = stack.wait(run, "Completed", "Failed", "Crashed")
    assert done.state is not None and done.state.is_completed(), done.state
    assert done.name == "lena-first-try", "the name that somebody gave it"
    made = attempts(stack.home, "width")
    assert len(made) == before + 1
    first = next(m for m in made if m["key"] == made[-1]["key"])
    assert first["number"] < made[-1]["number"]


def test_a_grid_that_is_retried_runs_the_cells_that_failed(stack: Stack) -> None:
    parameters = {
        "grid": "smoke-grid",
        "recipe": "-",
        "settings": list(SETTINGS),
        "seeds": [7],
        "only": ["1-s7"],
    }
    module, function = "rosita_core.stages.one_step", "prune_one_step"
    fault = {"do": "raise", "module": module, "function": function, "message": "no luck"}
    with stack.worker("unlucky", fault) as worker:
        run = stack.run("grid/weekly", parameters)
        failed = stack.wait(run, "Completed", "Failed", "Crashed")
        assert failed.state is not None
        said = "1 of 1 cells of grid smoke-grid failed, first 1-s7: stage one-step failed"
        assert said in str(failed.state.message), worker.said()[-3000:]
    with stack.worker("first") as worker:
        # What "Retry" in Prefect's page does.
        with stack.client() as client:
            client.set_flow_run_state(run, AwaitingRetry(), force=True)
        done = stack.wait(run, "Completed", "Failed", "Crashed")
        assert done.state is not None
        assert done.state.is_completed(), (done.state.message, worker.said()[-3000:])
