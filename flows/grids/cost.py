"""What a grid costs before it runs: hours of devices, the longest chain, and the time in all.

Every second in here was measured: of a stage's most similar attempt in this home on the same model
and kind of device, scaled by its steps or rows. Where a stage has never run the grid's time is
unknown, and only what is known is told: that it takes no less.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from flows.grids.definition import Grid
from flows.grids.plan import GridPlan, GridStage
from flows.grids.tables import stage_table
from tasks.host.console import console
from tasks.host.wording import duration

HOUR = 3600.0


@dataclass(frozen=True)
class GridCost:
    """The missing stages of a grid on a number of devices; what is unknown takes no time.

    Attributes:
        plan: of the cells.
        gpus: devices; a stage holds as many as it has processes, from its
            beginning to its end.
        path: the chain of stages that takes longest, each reading from the one before.
        path_seconds: that it takes, on however many devices.
        device_seconds: seconds of all stages, each times the devices that it holds.
    """

    plan: GridPlan
    gpus: int
    path: tuple[GridStage, ...]
    path_seconds: float
    device_seconds: float

    @property
    def complete(self) -> bool:
        """Whether every missing stage can be estimated."""
        return not self.plan.unknown

    @property
    def seconds(self) -> float:
        """No order of the stages takes less: the longest path, or the work over the devices."""
        return max(self.path_seconds, self.device_seconds / self.gpus)

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
        ValueError: where `gpus` is below 1, or below the processes of a training.
    """
    if gpus < 1:
        raise ValueError(f"gpus must be at least 1, got {gpus}")
    most = max((stage.vertex.processes for stage in plan.missing), default=1)
    if gpus < most:
        raise ValueError(f"gpus must be at least numerics.processes, {most}, got {gpus}")
    paths: dict[str, tuple[float, tuple[GridStage, ...]]] = {}
    for stage in plan.missing:
        before = [paths[id_] for id_ in stage.vertex.needs.values() if id_ in paths]
        seconds, path = max(before, key=lambda found: found[0], default=(0.0, ()))
        paths[stage.vertex.id] = (seconds + (stage.seconds or 0.0), (*path, stage))
    seconds, path = max(paths.values(), key=lambda found: found[0], default=(0.0, ()))
    work = sum((stage.seconds or 0.0) * stage.vertex.processes for stage in plan.missing)
    return GridCost(plan, gpus, path, seconds, work)


def cost_document(grid: Grid, cost: GridCost) -> dict[str, Any]:
    """The cost as JSON-able values.

    `gpu_hours` and `seconds` are null while a stage cannot be estimated; `at_least_...` hold all
    the same. Cached stages cost nothing.
    """
    plan, hours = cost.plan, cost.device_seconds / HOUR
    return {
        "grid": grid.name,
        "cells": len(plan.graph.cells),
        "gpus": cost.gpus,
        "measured_on": list(cost.measured_on),
        "complete": cost.complete,
        "seconds": cost.seconds if cost.complete else None,
        "at_least_seconds": cost.seconds,
        "gpu_hours": hours if cost.complete else None,
        "at_least_gpu_hours": hours,
        "critical_path": {
            "seconds": cost.path_seconds if cost.complete else None,
            "at_least_seconds": cost.path_seconds,
            "stages": [_stage(stage) for stage in cost.path],
        },
        "distinct_stages": len(plan.stages),
        "cached": len(plan.stages) - len(plan.missing),
        "stages": [_stage(stage) for stage in plan.missing],
        "unknown": [
            {"name": name, "count": count, "why": why}
            for (name, why), count in _unknown(plan).items()
        ],
    }


def show_cost(grid: Grid, cost: GridCost) -> None:
    """A row per kind of stage, the longest chain, and what all of it takes."""
    plan = cost.plan
    cached = len(plan.stages) - len(plan.missing)
    title = (
        f"{grid.name}: {len(plan.graph.cells)} cells, {len(plan.stages)} distinct stages, "
        f"{cached} of them cached"
    )
    if not plan.missing:
        print(f"{title}; nothing to compute.")
        return
    console().print(stage_table(title, plan))
    for line in _lines(cost):
        print(line)


def _lines(cost: GridCost) -> list[str]:
    """What the table comes to. Plain lines, so that they can be searched and copied."""
    least = "" if cost.complete else "at least "
    lines = []
    if cost.measured_on:
        chain = " -> ".join(stage.name for stage in cost.path)
        devices = f"{cost.gpus} device{'s' if cost.gpus > 1 else ''}"
        lines += [
            f"critical path:    {least}{duration(cost.path_seconds)}: {chain}",
            f"GPU-hours:        {least}{cost.device_seconds / HOUR:.3g}, at the speed of "
            + ", ".join(cost.measured_on)
            + ("" if cost.on_gpu else "; no GPU has been measured here"),
            f"time:             {least}{duration(cost.seconds)} on {devices}: the longer of the "
            "critical path and the work shared by the devices",
        ]
    for (name, why), count in _unknown(cost.plan).items():
        lines.append(f"unknown:          {count} of {name}: {why}")
    if not cost.complete:
        lines.append("run one cell (--max-cells 1) to measure what is unknown")
    return lines


def _stage(stage: GridStage) -> dict[str, Any]:
    estimate = stage.estimate
    assert estimate is not None
    return {
        "id": stage.vertex.id,
        "name": stage.name,
        "cells": list(stage.vertex.cells),
        "needs": list(stage.vertex.needs.values()),
        "seconds": estimate.seconds,
        "seconds_each": estimate.each,
        "unit": estimate.unit,
        "units": estimate.units,
        "estimate": estimate.source,
        "measured_on": estimate.measured_on,
    }


def _unknown(plan: GridPlan) -> Counter[tuple[str, str]]:
    return Counter((s.name, s.estimate.source if s.estimate else "") for s in plan.unknown)
