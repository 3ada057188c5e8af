"""When a schedule runs."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from pydantic import ValidationError

Times = CronSchedule | IntervalSchedule


def times(cron: str | None, interval: float | None, timezone: str) -> Times:
    """The schedule of a cron expression or of an interval in seconds.

    Raises:
        ValueError: one line naming what is wrong.
    """
    if (cron is None) == (interval is None):
        given = "neither" if cron is None else "both"
        raise ValueError(f"schedule must have --cron or --interval, got {given}")
    if interval is not None:
        if not interval >= 1:
            raise ValueError(f"interval must be at least 1 second, got {interval:g}")
        return IntervalSchedule(interval=timedelta(seconds=interval))
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
