"""When a schedule runs, and serving a deployment by it: what `rosita schedule` does."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.deployments.runner import EntrypointType
from prefect.schedules import Schedule
from pydantic import ValidationError

from flows.services.servers import ServerError
from flows.services.work_pool import TAG, job_template, prepare_automations
from tasks.host.network import unreachable
from tasks.host.redaction import redacted

LOST_SECONDS = 45.0
WATCH_SECONDS = 5.0

Times = CronSchedule | IntervalSchedule
LONGEST = 366 * 24 * 60 * 60  # seconds between two runs


def times(cron: str | None, interval: float | None, timezone: str | None) -> Times:
    """The schedule of a cron expression, in a time zone (UTC), or of an interval in seconds.

    Raises:
        ValueError: one line naming what is wrong.
    """
    if (cron is None) == (interval is None):
        given = "neither" if cron is None else "both"
        raise ValueError(f"schedule must have --cron or --interval, got {given}")
    if interval is not None:
        if not 1 <= interval <= LONGEST:
            raise ValueError(
                f"interval must be in [1, {LONGEST:,}] seconds, a year, got {interval:g}"
            )
        if timezone is not None:
            raise ValueError(f"timezone must be left out with --interval, got {timezone!r}")
        return IntervalSchedule(interval=timedelta(seconds=interval))
    timezone = "UTC" if timezone is None else timezone
    try:
        CronSchedule(cron="0 0 * * *", timezone=timezone)
    except ValidationError:
        raise ValueError(
            f"timezone must be a name such as Europe/Berlin, got {timezone!r}"
        ) from None
    try:
        return CronSchedule(cron=str(cron), timezone=timezone)
    except ValidationError:
        raise ValueError(
            "cron must be minute, hour, day of month, month and day of week, such as "
            f"'0 2 * * *', got {cron!r}"
        ) from None


def next_time(when: Times) -> datetime:
    """When the first run is due, as Prefect's server will find it.

    Raises:
        ValueError: where there is no such time, as on a 30 February.
    """
    from prefect.server.schemas import schedules

    kind = schedules.CronSchedule if isinstance(when, CronSchedule) else schedules.IntervalSchedule
    try:
        dates = asyncio.run(kind.model_validate(when.model_dump()).get_dates(n=1))
    except ValueError:
        dates = []
    if not dates:
        raise ValueError(f"cron must be a time that comes, got {getattr(when, 'cron', when)!r}")
    return dates[0]


def serve(
    flow: Flow[..., Any],
    api: str,
    name: str,
    when: Times,
    first: datetime,
    parameters: dict[str, Any],
) -> None:
    """Make the deployment `<flow>/<name>` and carry its runs out, until a signal comes.

    Args:
        flow: what runs.
        api: address of Prefect's server.
        name: of the deployment.
        when: the schedule.
        first: when it runs next.
        parameters: of the flow.
    """
    with ended_without(f"{api.rstrip('/')}/health", redacted(api)):
        prepare_automations(api)
        for variable, value in job_template()["job_configuration"]["env"].items():
            os.environ.setdefault(variable, value)
        print(f"Prefect: {redacted(api).removesuffix('/api')}")
        print(f"{flow.name}/{name} runs next at {first.isoformat(timespec='seconds')}")
        print("Ctrl-C ends it.", flush=True)
        _serve(flow, name, when, parameters)


def _serve(flow: Flow[..., Any], name: str, when: Times, parameters: dict[str, Any]) -> None:
    flow.serve(
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


@contextmanager
def ended_without(health: str, server: str, seconds: float = LOST_SECONDS) -> Iterator[None]:
    """End the block as Ctrl-C does where a server stops answering: no run would ever come again.

    Args:
        health: address that answers while the server is there.
        server: its name for people.
        seconds: for which it may be away.

    Raises:
        ServerError: where the block was ended so.
    """
    over, lost, guard = threading.Event(), threading.Event(), threading.Lock()
    main = threading.get_ident()

    def interrupt() -> None:
        # Not where the block has ended meanwhile.
        with guard:
            if not over.is_set():
                lost.set()
                # Of the main thread, which may sleep; one of this thread would not wake it.
                signal.pthread_kill(main, signal.SIGINT)

    def watch() -> None:
        answered = time.monotonic()
        while not over.wait(min(WATCH_SECONDS, seconds / 3)):
            if unreachable(health, (200, 401, 403)) is None:
                answered = time.monotonic()
            elif time.monotonic() - answered > seconds:
                interrupt()
                answered = time.monotonic()

    handler = signal.getsignal(signal.SIGINT)
    if handler == signal.SIG_IGN:
        # What a script starts in the background ignores it from the start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if not lost.is_set():
            raise
    except httpx.TransportError:
        # Prefect's client asked before the watch did.
        lost.set()
    finally:
        with guard:
            over.set()
        if handler == signal.SIG_IGN:
            signal.signal(signal.SIGINT, handler)
    if lost.is_set():
        raise ServerError(f"Prefect's server at {server} does not answer any more; start it again")


def _fields(when: Times) -> dict[str, Any]:
    given = when.model_dump(exclude_unset=True)
    return {name: given[name] for name in ("cron", "interval", "timezone") if name in given}
