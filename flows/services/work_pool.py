"""What Prefect's server has to know before a worker starts: its pool, and what to do when it dies.

Everything is made once and then left as an operator has changed it, but for how a run is started.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkQueue
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.services.servers import ServerError
from flows.services.worker import POOL
from tasks.host.redaction import redacted

TRAINING_QUEUE = "gpu"
TAG = "rosita"
"""Of every deployment; the automations are about runs that have it."""
HEARTBEAT_SECONDS = 30
LOST_AFTER_SECONDS = 120
"""A run whose process is gone with its machine says nothing any more."""
AGAIN_AFTER_SECONDS = 20
LOST = "rosita: a run whose process is gone has crashed"
AGAIN = "rosita: a crashed run starts again"
JOB: dict[str, Any] = {
    "job_configuration": {
        "command": None,
        "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)},
        "labels": {},
        "name": "{{ name }}",
        "stream_output": True,
        "working_dir": None,
    },
    "variables": {"type": "object", "properties": {"name": {"type": "string"}}},
}
"""How the pool starts a run: by Prefect's own command, in the worker's folder. Whoever asks for a
run chooses neither."""
STATES = ("Completed", "Failed", "TimedOut", "Crashed", "Cancelling", "Cancelled", "AwaitingRetry")
"""A run in one of these need not say that it lives."""
BEGINNING = ("Scheduled", "Pending", "Running")
HEARTBEAT = "prefect.flow-run.heartbeat"


def prepare_work_pool(api: str, pool: str = POOL, lost_after: int = LOST_AFTER_SECONDS) -> None:
    """Make the pool, the queue for trainings, one at a time, and the automations, where missing.

    Args:
        api: address of the server.
        pool: of processes.
        lost_after: seconds without a sign of life after which a run counts as crashed.

    Raises:
        ServerError: where the server does not answer, or refuses.
    """
    with _server(api) as client:
        try:
            if client.read_work_pool(pool).base_job_template != JOB:
                client.update_work_pool(pool, WorkPoolUpdate(base_job_template=JOB))
        except ObjectNotFound:
            # Another worker may make it at the same time.
            with suppress(ObjectAlreadyExists):
                client.create_work_pool(
                    WorkPoolCreate(name=pool, type="process", base_job_template=JOB)
                )
        queue = _training_queue(client, pool)
        if queue.concurrency_limit is None:
            client.update_work_queue(queue.id, concurrency_limit=1)
    prepare_automations(api, lost_after)


def prepare_automations(api: str, lost_after: int = LOST_AFTER_SECONDS) -> None:
    """Make the automations that are missing; arguments and errors as of `prepare_work_pool`."""
    with _server(api) as client:
        known = {automation.name for automation in client.read_automations()}
        for automation in automations(lost_after):
            if automation["name"] not in known:
                client.create_automation(AutomationCore.model_validate(automation))
                _leave_one(client, automation["name"])


def _leave_one(client: SyncPrefectClient, name: str) -> None:
    """Of those that several workers made at the same time, all leave the same one."""
    made = [automation.id for automation in client.read_automations_by_name(name)]
    for spare in sorted(made, key=str)[1:]:
        with suppress(ObjectNotFound):
            client.delete_automation(spare)


@contextmanager
def _server(api: str) -> Iterator[SyncPrefectClient]:
    settings = temporary_settings({PREFECT_API_URL: api})
    with settings, get_client(sync_client=True) as client:
        try:
            yield client
        except httpx.HTTPError as error:
            raise ServerError(f"Prefect's server at {redacted(api)}: {error}") from error


def _training_queue(client: SyncPrefectClient, pool: str) -> WorkQueue:
    try:
        return client.read_work_queue_by_name(TRAINING_QUEUE, work_pool_name=pool)
    except ObjectNotFound:
        try:
            return client.create_work_queue(TRAINING_QUEUE, work_pool_name=pool)
        except ObjectAlreadyExists:
            return client.read_work_queue_by_name(TRAINING_QUEUE, work_pool_name=pool)


def automations(lost_after: int) -> tuple[dict[str, Any], ...]:
    """Retries for infrastructure: a run whose process or machine died starts again.

    A run that failed has a reason to fail again, and is left alone. A run that starts again takes
    its finished stages from the cache, and goes on from the last checkpoint.
    """
    about = {
        "type": "event",
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {
            "prefect.resource.id": f"prefect.tag.{TAG}",
            "prefect.resource.role": "tag",
        },
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
    }
    lost = {
        "posture": "Proactive",
        "after": [HEARTBEAT],
        "expect": [HEARTBEAT, *(f"prefect.flow-run.{state}" for state in STATES)],
        "within": lost_after,
    }
    # Some seconds later: the process and its worker may both say that it crashed.
    crashed = {
        "posture": "Proactive",
        "after": ["prefect.flow-run.Crashed"],
        "expect": [
            f"prefect.flow-run.{state}" for state in (*STATES, *BEGINNING) if state != "Crashed"
        ],
        "within": AGAIN_AFTER_SECONDS,
    }
    return (
        _automation(
            LOST, about | lost, "CRASHED", "Crashed", f"no sign of life for {lost_after} s"
        ),
        _automation(AGAIN, about | crashed, "SCHEDULED", "AwaitingRetry", "its process was lost"),
    )


def _automation(
    name: str, trigger: dict[str, Any], state: str, state_name: str, message: str
) -> dict[str, Any]:
    action = {
        "type": "change-flow-run-state",
        "state": state,
        "name": state_name,
        "message": message,
    }
    return {"name": name, "trigger": trigger, "actions": [action]}
