"""How long stages that wait for each other take on several devices: list scheduling.

Stages are started as soon as a device is free, those with the longest chain behind them first
(Graham, "Bounds on multiprocessing timing anomalies", 1969; Hu's level order).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter


@dataclass(frozen=True)
class Job:
    """A stage as the scheduler sees it.

    Attributes:
        seconds: that it takes, at least 0.
        needs: ids of the jobs that must have ended before it starts.
        devices: that it holds meanwhile, at least 1.
    """

    seconds: float
    needs: tuple[str, ...]
    devices: int = 1


@dataclass(frozen=True)
class Slot:
    """When a job runs, and on which devices, counted from 0."""

    start: float
    end: float
    devices: tuple[int, ...]


@dataclass(frozen=True)
class Schedule:
    """Jobs on devices.

    Attributes:
        slots: id of a job -> when and where it runs.
        makespan: seconds until the last one ends.
        critical_path: ids of the chain of jobs that takes longest, in order.
        critical_seconds: that this chain takes on as many devices as there may be.
        device_seconds: seconds of all jobs, each times the devices that it holds.
        devices: how many there are.
    """

    slots: dict[str, Slot]
    makespan: float
    critical_path: tuple[str, ...]
    critical_seconds: float
    device_seconds: float
    devices: int

    @property
    def lower_bound(self) -> float:
        """Seconds below which no order of the jobs ends."""
        return max(self.critical_seconds, self.device_seconds / self.devices)


def schedule(jobs: Mapping[str, Job], devices: int) -> Schedule:
    """Place every job; of jobs with equally long chains the one that was given first goes first.

    Args:
        jobs: id -> job. What a job needs beyond them is done already.
        devices: how many there are.

    Raises:
        ValueError: where there are fewer devices than a job holds.
        graphlib.CycleError: where jobs wait for each other in a circle.
    """
    most = max((job.devices for job in jobs.values()), default=1)
    if devices < most:
        raise ValueError(f"devices must be at least {most}, what one stage holds, got {devices}")
    needs = {name: tuple(n for n in job.needs if n in jobs) for name, job in jobs.items()}
    order = tuple(TopologicalSorter(needs).static_order())
    chain, follows = _chains(jobs, needs, order)
    slots = _placed(jobs, needs, chain, devices)
    first = max(chain, key=lambda name: chain[name], default=None)
    path: list[str] = []
    while first is not None:
        path.append(first)
        first = follows[first]
    return Schedule(
        slots,
        max((slot.end for slot in slots.values()), default=0.0),
        tuple(path),
        max(chain.values(), default=0.0),
        sum(job.seconds * job.devices for job in jobs.values()),
        devices,
    )


def _chains(
    jobs: Mapping[str, Job], needs: Mapping[str, tuple[str, ...]], order: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, str | None]]:
    """Seconds of the longest chain that each job begins, and the next job of that chain."""
    behind = dict.fromkeys(jobs, 0.0)
    follows: dict[str, str | None] = dict.fromkeys(jobs)
    chain: dict[str, float] = {}
    for name in reversed(order):
        chain[name] = jobs[name].seconds + behind[name]
        for needed in needs[name]:
            if follows[needed] is None or chain[name] > behind[needed]:
                behind[needed], follows[needed] = chain[name], name
    return {name: chain[name] for name in jobs}, follows


def _placed(
    jobs: Mapping[str, Job],
    needs: Mapping[str, tuple[str, ...]],
    chain: Mapping[str, float],
    devices: int,
) -> dict[str, Slot]:
    place = {name: index for index, name in enumerate(jobs)}
    waiting = {name: set(needed) for name, needed in needs.items()}
    ready = sorted(
        (name for name in jobs if not waiting[name]), key=lambda n: (-chain[n], place[n])
    )
    free = list(range(devices))
    running: list[tuple[float, int, str]] = []
    slots: dict[str, Slot] = {}
    now = 0.0
    while ready or running:
        for name in list(ready):
            held = jobs[name].devices
            if held <= len(free):
                ready.remove(name)
                taken, free = tuple(free[:held]), free[held:]
                slots[name] = Slot(now, now + jobs[name].seconds, taken)
                heapq.heappush(running, (slots[name].end, place[name], name))
        # Everything that ends at this moment is done before anything new is placed.
        now = running[0][0]
        while running and running[0][0] == now:
            _, _, done = heapq.heappop(running)
            free = sorted([*free, *slots[done].devices])
            for name, needed in waiting.items():
                if done in needed:
                    needed.remove(done)
                    if not needed:
                        ready.append(name)
        ready.sort(key=lambda n: (-chain[n], place[n]))
    return slots
