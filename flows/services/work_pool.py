"""What Prefect's server has to know before a worker starts: its pool, and what to do when it dies.

What they are is in files of `deployments`, which Prefect's own commands read as well. Everything is
made once and then left as an operator has changed it, but for how a run is started.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml
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
KIND = "process"
"""Of the pool: its runs are processes of the worker's machine."""
# Beside this package, whichever other `deployments` there may be.
FILES = Path(__file__).parents[2] / "deployments"


def job_template() -> dict[str, Any]:
    """How the pool starts a run: by Prefect's own command, in the worker's folder, with a sign of
    life each 30 seconds. Whoever asks for a run chooses none of it."""
    template: dict[str, Any] = json.loads((FILES / "work-pool.json").read_text("utf-8"))
    return template


def prepare_work_pool(api: str, pool: str = POOL) -> None:
    """Make the pool, the queue for trainings, one at a time, and the automations, where missing.

    Args:
        api: address of the server.
        pool: of processes.

    Raises:
        ServerError: where the server does not answer, or refuses.
        ValueError: for a pool that is there and of another type.
    """
    job = job_template()
    with _server(api) as client:
        try:
            found = client.read_work_pool(pool)
            if found.type != KIND:
                # Its job template is another infrastructure's, and somebody else's work.
                raise ValueError(
                    f"pool must be a work pool of type {KIND}, got {pool!r} of type {found.type}"
                )
            if found.base_job_template != job:
                client.update_work_pool(pool, WorkPoolUpdate(base_job_template=job))
        except ObjectNotFound:
            # Another worker may make it at the same time.
            with suppress(ObjectAlreadyExists):
                client.create_work_pool(WorkPoolCreate(name=pool, type=KIND, base_job_template=job))
        queue = _training_queue(client, pool)
        if queue.concurrency_limit is None:
            client.update_work_queue(queue.id, concurrency_limit=1)
    prepare_automations(api)


def prepare_automations(api: str) -> None:
    """Make the automations that are missing; errors as of `prepare_work_pool`."""
    document = yaml.safe_load((FILES / "automations.yaml").read_text("utf-8"))
    with _server(api) as client:
        known = {automation.name for automation in client.read_automations()}
        for automation in document["automations"]:
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
            raise ServerError(redacted(f"Prefect's server at {api}: {error}")) from error


def _training_queue(client: SyncPrefectClient, pool: str) -> WorkQueue:
    try:
        return client.read_work_queue_by_name(TRAINING_QUEUE, work_pool_name=pool)
    except ObjectNotFound:
        try:
            return client.create_work_queue(TRAINING_QUEUE, work_pool_name=pool)
        except ObjectAlreadyExists:
            return client.read_work_queue_by_name(TRAINING_QUEUE, work_pool_name=pool)
