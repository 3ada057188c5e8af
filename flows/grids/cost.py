"""What a grid costs before it runs: hours of devices, the longest chain, and a schedule.

Every second in here was measured: of a stage's most similar attempt in this home, scaled by its
steps or rows. Where a stage has never run the grid's time is unknown, and only what is known is
told: that it takes no less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from flows.grids.definition import Grid
from flows.grids.plan import GridPlan, GridStage
from flows.grids.schedule import Job, Schedule, schedule
from tasks.host.console import console
from tasks.host.wording import duration

HOUR = 3600.0


@dataclass(frozen=True)
class GridCost:
    """The missing stages of a grid on a number of devices.

    Attributes:
        plan: of the cells.
        gpus: devices; a stage holds as many as it has processes, from its
            beginning to its end.
        schedule: of the stages that can be estimated, the others taking no time.
    """

    plan: GridPlan
    gpus: int
    schedule: Schedule

    @property
    def complete(self) -> bool:
        """Whether every missing stage can be estimated."""
        return not self.plan.unknown

    @property
    def measured_on(self) -> tuple[str, ...]:
        """The processors that the estimates come from."""
        found = (s.estimate.measured_on for s in self.plan.missing if s.estimate is not None)
        return tuple(dict.fromkeys(name for name in found if name is not None))

    @property
    def on_gpu(self) -> bool:
        """Whether all of them are GPUs."""
        return all(name.startswith("cuda") for name in self.measured_on)


def cost_of(plan: GridPlan, gpus: int) -> GridCost:
    """The cost of what the plan's cells lack.

    Raises:
        ValueError: where `gpus` is below 1.
    """
    if gpus < 1:
        raise ValueError(f"gpus must be at least 1, got {gpus}")
    jobs = {
        stage.identity: Job(_seconds(stage) or 0.0, stage.needs, stage.processes)
        for stage in plan.missing
    }
    most = max((job.devices for job in jobs.values()), default=1)
    if gpus < most:
        raise ValueError(f"gpus must be at least numerics.processes, {most}, got {gpus}")
    return GridCost(plan, gpus, schedule(jobs, gpus))


def cost_document(grid: Grid, cost: GridCost) -> dict[str, Any]:
    """The cost as JSON-able values.

    `gpu_hours` and `seconds` (the length of the schedule) are null while a stage cannot be
    estimated; `at_least_...` hold all the same. Cached stages cost nothing.
    """
    plan, planned = cost.plan, cost.schedule
    hours = planned.device_seconds / HOUR
    return {
        "grid": grid.name,
        "cells": len(plan.cells),
        "gpus": cost.gpus,
        "measured_on": list(cost.measured_on),
        "complete": cost.complete,
        "seconds": planned.makespan if cost.complete else None,
        "at_least_seconds": planned.lower_bound,
        "gpu_hours": hours if cost.complete else None,
        "at_least_gpu_hours": hours,
        "critical_path": {
            "seconds": planned.critical_seconds if cost.complete else None,
            "at_least_seconds": planned.critical_seconds,
            "stages": [_stage(cost, plan.stages[i]) for i in planned.critical_path],
        },
        "distinct_stages": len(plan.stages),
        "cached": len(plan.stages) - len(plan.missing),
        "stages": [_stage(cost, stage) for stage in plan.missing],
        "unknown": [
            {"name": name, "count": count, "why": why}
            for (name, why), count in _unknown(plan).items()
        ],
    }


def show_cost(grid: Grid, cost: GridCost) -> None:
    """A row per kind of stage, the longest chain, and what all of it takes."""
    plan, planned = cost.plan, cost.schedule
    cached = len(plan.stages) - len(plan.missing)
    title = (
        f"{grid.name}: {len(plan.cells)} cells, {len(plan.stages)} distinct stages, "
        f"{cached} of them cached"
    )
    if not plan.missing:
        print(f"{title}; nothing to compute.")
        return
    table = Table(title=title)
    for name in ("stage", "to run", "time", "one takes", "from"):
        table.add_column(name, justify="left" if name in ("stage", "from") else "right")
    for name in dict.fromkeys(stage.name for stage in plan.missing):
        table.add_row(name, *_row([stage for stage in plan.missing if stage.name == name]))
    out = console()
    out.print(table)
    for line in _lines(cost, planned, plan.stages):
        print(line)


def _lines(cost: GridCost, planned: Schedule, stages: Mapping[str, GridStage]) -> list[str]:
    """What the table comes to. Plain lines, so that they can be searched and copied."""
    hours, least = planned.device_seconds / HOUR, "" if cost.complete else "at least "
    lines = []
    if cost.measured_on:
        chain = " -> ".join(stages[identity].name for identity in planned.critical_path)
        lines += [
            f"critical path:    {least}{duration(planned.critical_seconds)}: {chain}",
            f"GPU-hours:        {least}{hours:.3g}, at the speed of {', '.join(cost.measured_on)}"
            + ("" if cost.on_gpu else "; no GPU has been measured here"),
        ]
        devices = f"on {cost.gpus} device{'s' if cost.gpus > 1 else ''}"
        if cost.complete:
            busy = planned.device_seconds / (planned.makespan * cost.gpus)
            lines.append(
                f"time:             {duration(planned.makespan)} {devices}, {busy:.0%} of them "
                f"busy; no order of the stages takes less than {duration(planned.lower_bound)}"
            )
        else:
            lines.append(f"time:             {least}{duration(planned.lower_bound)} {devices}")
    for (name, why), count in _unknown(cost.plan).items():
        lines.append(f"unknown:          {count} of {name}: {why}")
    if not cost.complete:
        lines.append("run one cell (--max-cells 1) to measure what is unknown")
    return lines


def _row(stages: Sequence[GridStage]) -> tuple[str, str, str, str]:
    """How many, their time in all, the time of one, and where the longest one's is from."""
    known = [stage for stage in stages if _seconds(stage) is not None]
    if not known:
        why = stages[0].estimate.source if stages[0].estimate else ""
        return str(len(stages)), "unknown", "", why
    times = [_seconds(stage) or 0.0 for stage in known]
    low, high = duration(min(times)), duration(max(times))
    longest = max(known, key=lambda stage: _seconds(stage) or 0.0).estimate
    total = duration(sum(times))
    if len(known) < len(stages):
        total = f"{total} and {len(stages) - len(known)} unknown"
    one = low if low == high else f"{low} to {high}"
    return str(len(stages)), total, one, longest.source if longest else ""


def _stage(cost: GridCost, stage: GridStage) -> dict[str, Any]:
    estimate, slot = stage.estimate, cost.schedule.slots[stage.identity]
    assert estimate is not None
    return {
        "id": stage.identity,
        "name": stage.name,
        "cells": list(stage.cells),
        "needs": list(stage.needs),
        "seconds": estimate.seconds,
        "seconds_each": estimate.each,
        "unit": estimate.unit,
        "units": estimate.units,
        "estimate": estimate.source,
        "measured_on": estimate.measured_on,
        # With a stage of unknown length, every place in the schedule would be made up.
        "start": slot.start if cost.complete else None,
        "devices": list(slot.devices) if cost.complete else None,
    }


def _unknown(plan: GridPlan) -> Counter[tuple[str, str]]:
    return Counter((s.name, s.estimate.source if s.estimate else "") for s in plan.unknown)


def _seconds(stage: GridStage) -> float | None:
    return None if stage.estimate is None else stage.estimate.seconds
