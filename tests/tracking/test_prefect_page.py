"""The page of a running stage in Prefect, on a real server."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterTaskRunId
from prefect.client.schemas.objects import Artifact
from prefect.context import TaskRunContext

from rosita_core.training.progress import Progress
from tasks.execution.prefect_page import EVERY_SECONDS, FIRST_SECONDS, PrefectPage

pytestmark = pytest.mark.usefixtures("in_prefect")


def at(step: int) -> Progress:
    return Progress(step, 200, {}, None, None)


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def in_a_task(body: Callable[[PrefectPage, Clock], None]) -> UUID:
    """Do something with the page of a task run; the id of that."""
    ids: list[UUID] = []

    @task
    def stage() -> None:
        run = TaskRunContext.get()
        assert run is not None
        ids.append(run.task_run.id)
        clock = Clock()
        body(PrefectPage("[5/9] depth", clock), clock)

    @flow
    def whole() -> None:
        stage()

    whole()
    return ids[0]


def bars(client: SyncPrefectClient, run: UUID) -> list[Artifact]:
    return [one for one in client.read_artifacts() if one.task_run_id == run]


def until(moment: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not moment():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_long_stage_has_one_bar_that_moves_and_lines_in_its_log() -> None:
    def body(page: PrefectPage, clock: Clock) -> None:
        page.resumed(40)
        page.update(at(41), "[5/9] depth: step 41/200")
        clock.seconds = FIRST_SECONDS
        page.update(at(50), "[5/9] depth: step 50/200, loss 0.5")
        clock.seconds += EVERY_SECONDS / 2
        page.update(at(80), "[5/9] depth: step 80/200, loss 0.4")
        clock.seconds += EVERY_SECONDS / 2
        page.update(at(100), "[5/9] depth: step 100/200, loss 0.3")
        with get_client(sync_client=True) as client:
            mine = TaskRunContext.get()
            assert mine is not None
            until(lambda: [b.data for b in bars(client, mine.task_run.id)] == [50.0])
        page.end("completed")

    run = in_a_task(body)
    with get_client(sync_client=True) as client:
        until(lambda: [bar.data for bar in bars(client, run)] == [100.0])
        [bar] = bars(client, run)
        assert (bar.type, bar.description) == ("progress", "[5/9] depth: completed")
        logs = LogFilter(task_run_id=LogFilterTaskRunId(any_=[run]))

        def lines() -> list[str]:
            found = client.read_logs(log_filter=logs)
            return [one.message for one in found if one.message.startswith("[5/9] depth")]

        until(lambda: len(lines()) == 3)
        assert lines() == [
            "[5/9] depth: goes on from step 40",
            "[5/9] depth: step 50/200, loss 0.5",
            "[5/9] depth: step 100/200, loss 0.3",
        ]


def test_a_bar_is_finished_that_was_not_yet_there_when_its_stage_ended() -> None:
    def body(page: PrefectPage, clock: Clock) -> None:
        clock.seconds = FIRST_SECONDS
        page.update(at(150), "[5/9] depth: step 150/200")
        page.end("completed")

    run = in_a_task(body)
    with get_client(sync_client=True) as client:
        until(lambda: [bar.data for bar in bars(client, run)] == [100.0])


def test_a_short_stage_has_none() -> None:
    def body(page: PrefectPage, clock: Clock) -> None:
        clock.seconds = FIRST_SECONDS / 2
        page.update(at(200), "[5/9] depth: step 200/200")
        page.end("completed")

    run = in_a_task(body)
    with get_client(sync_client=True) as client:
        assert bars(client, run) == []
