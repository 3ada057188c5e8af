"""Laws of the scheduler behind `rosita grid --estimate`."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.grids.schedule import Job, Schedule, schedule

SECONDS = st.integers(0, 50).map(float)


@st.composite
def graphs(draw: st.DrawFn, most_devices: int = 1) -> dict[str, Job]:
    """Up to twelve jobs; each needs any of those before it."""
    jobs: dict[str, Job] = {}
    for number in range(draw(st.integers(0, 12))):
        needs = draw(st.sets(st.sampled_from(sorted(jobs)))) if jobs else set[str]()
        held = draw(st.integers(1, most_devices))
        jobs[f"job-{number}"] = Job(draw(SECONDS), tuple(sorted(needs)), held)
    # The order that they are given in says nothing of what waits for what.
    return {name: jobs[name] for name in draw(st.permutations(sorted(jobs)))}


def check_is_possible(jobs: dict[str, Job], made: Schedule) -> None:
    """Nothing starts before what it needs has ended, and no device does two things at once."""
    assert set(made.slots) == set(jobs)
    for name, slot in made.slots.items():
        assert slot.end == slot.start + jobs[name].seconds
        assert len(set(slot.devices)) == jobs[name].devices
        assert set(slot.devices) <= set(range(made.devices))
        assert all(made.slots[needed].end <= slot.start for needed in jobs[name].needs)
    for device in range(made.devices):
        spans = sorted((s.start, s.end) for s in made.slots.values() if device in s.devices)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))


@given(graphs(most_devices=3), st.integers(3, 6))
def test_schedules_are_possible_and_never_below_the_bounds(
    jobs: dict[str, Job], devices: int
) -> None:
    made = schedule(jobs, devices)
    check_is_possible(jobs, made)
    area = sum(job.seconds * job.devices for job in jobs.values())
    assert made.device_seconds == area
    assert made.lower_bound == max(made.critical_seconds, area / devices)
    assert made.makespan >= made.lower_bound - 1e-9
    assert made.makespan == max((slot.end for slot in made.slots.values()), default=0.0)


@given(graphs())
def test_one_device_takes_the_sum(jobs: dict[str, Job]) -> None:
    made = schedule(jobs, 1)
    assert made.makespan == made.lower_bound == sum(job.seconds for job in jobs.values())


@given(graphs(), st.integers(1, 6))
def test_no_device_is_left_idle_for_long(jobs: dict[str, Job], devices: int) -> None:
    """Graham's bound of every list schedule, and that more devices lower what bounds it."""
    made = schedule(jobs, devices)
    share = made.device_seconds / devices + (1 - 1 / devices) * made.critical_seconds
    assert made.makespan <= share + 1e-9
    more = schedule(jobs, devices + 1)
    assert more.lower_bound <= made.lower_bound
    assert more.critical_seconds == made.critical_seconds


@given(graphs())
def test_critical_path_is_the_longest_chain(jobs: dict[str, Job]) -> None:
    made = schedule(jobs, 1)
    path = made.critical_path
    assert sum(jobs[name].seconds for name in path) == made.critical_seconds
    for before, after in pairwise(path):
        assert before in jobs[after].needs
    ends: dict[str, float] = {}

    def end(name: str) -> float:
        if name not in ends:
            ends[name] = jobs[name].seconds + max(map(end, jobs[name].needs), default=0.0)
        return ends[name]

    assert made.critical_seconds == max(map(end, jobs), default=0.0)
    # With a device for each, nothing waits for a device.
    assert schedule(jobs, max(1, len(jobs))).makespan == made.critical_seconds


@settings(max_examples=20)
@given(graphs())
def test_what_is_not_among_the_jobs_is_done_already(jobs: dict[str, Job]) -> None:
    loose = {name: Job(j.seconds, (*j.needs, "cached")) for name, j in jobs.items()}
    assert schedule(loose, 2) == schedule(jobs, 2)


def test_long_chains_go_first() -> None:
    jobs = {
        "short": Job(1.0, ()),
        "long": Job(1.0, ()),
        "after": Job(5.0, ("long",)),
    }
    made = schedule(jobs, 1)
    assert made.slots["long"].start == 0.0
    assert made.critical_path == ("long", "after")
    assert schedule(jobs, 2).makespan == 6.0


def test_jobs_that_hold_more_devices_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match=r"devices must be at least 2, what one .* holds, got 1"):
        schedule({"wide": Job(1.0, (), 2)}, 1)
