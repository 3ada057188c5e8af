"""Serving a deployment from this machine: what `rosita schedule` does once all is checked."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import EntrypointType
from prefect.schedules import Schedule
from prefect.settings import get_current_settings

from flows.deployed import compress
from flows.grids.executors.processes import start_one_server
from flows.maintenance.doctor_services import unreachable
from flows.services.schedule_times import Times
from flows.services.servers import ServerError
from flows.services.work_pool import HEARTBEAT_SECONDS, TAG, prepare_automations
from tasks.host.redaction import redacted

HEARTBEAT_VARIABLE = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"


def reachable_api(logs: Path) -> str:
    """The address of the Prefect server of this shell; a server of this process where it has none.

    Raises:
        ServerError: where it does not answer.
    """
    url = get_current_settings().api.url
    if url:
        # A server that wants to know who asks is there.
        problem = unreachable(f"{url.rstrip('/')}/health", (200, 401, 403))
        if problem is not None:
            raise ServerError(f"Prefect's server at {redacted(url)} does not answer: {problem}")
        return url
    print(f"starting prefect; logs in {logs}", file=sys.stderr)
    start_one_server(logs)
    started = get_current_settings().api.url
    assert started is not None, "start_one_server sets it"
    return started


def serve(api: str, name: str, when: Times, first: datetime, parameters: dict[str, Any]) -> None:
    """Make the deployment `compress/<name>` and carry its runs out, until a signal comes."""
    prepare_automations(api)
    os.environ.setdefault(HEARTBEAT_VARIABLE, str(HEARTBEAT_SECONDS))
    print(f"Prefect: {redacted(api).removesuffix('/api')}")
    print(f"compress/{name} runs next at {first.isoformat(timespec='seconds')}")
    print("Ctrl-C ends it.", flush=True)
    compress.serve(
        name=name,
        schedule=Schedule(**_fields(when)),
        parameters=parameters,
        tags=[TAG],
        global_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
        print_starting_message=False,
        # A path would be looked for in the folder that this command was typed in.
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _fields(when: Times) -> dict[str, Any]:
    given = when.model_dump(exclude_unset=True)
    return {name: given[name] for name in ("cron", "interval", "timezone") if name in given}
