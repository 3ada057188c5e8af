"""Schedules: a straight line to an exact end, at equal distances over the fraction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosita_core.compression.schedule import (
    at_equal_distances,
    default_width_steps,
    depth_targets,
    width_targets,
)
from rosita_core.model.shape import Frame, Shape, narrowed, shallower, uniform_shape

BASE = uniform_shape(Frame(30522, 768, 64, 512, 2, 2), 12, 12, 3072, None)


def test_the_papers_width_schedule():
    assert default_width_steps(BASE, 2) == 10
    targets = width_targets(BASE, 2, 512, 128, 10)
    expected = [
        uniform_shape(BASE.frame, 12 - k, 12, 3072 - 256 * k, 768 - 64 * k) for k in range(1, 11)
    ]
    assert list(targets) == expected
    assert targets[-1] == uniform_shape(BASE.frame, 2, 12, 512, 128)


def test_the_papers_depth_schedule():
    assert depth_targets(BASE, 8) == tuple(shallower(BASE, n) for n in (11, 10, 9, 8))
    assert depth_targets(BASE, 12) == ()


@given(
    sizes=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 90)), min_size=1, max_size=4),
    rank=st.none() | st.integers(1, 40),
    steps=st.integers(1, 30),
    data=st.data(),
)
def test_any_target_is_reached_exactly_and_never_overshot(sizes, rank, steps, data):
    heads, units = zip(*sizes, strict=True)
    source = Shape(Frame(64, 40, 4, 8, 2, 2), heads, units, rank)
    goal = (
        data.draw(st.integers(1, min(heads))),
        data.draw(st.integers(1, min(units))),
        data.draw(st.integers(1, source.rank)),
    )
    targets = width_targets(source, *goal, steps)
    assert len(targets) == steps
    assert targets[-1] == narrowed(source, *goal)
    for before, after in zip((source, *targets), targets, strict=False):
        assert after.rank <= before.rank
        assert before.embedding_rank is None or after.embedding_rank is not None
        for a, b in zip(after.layer_heads, before.layer_heads, strict=True):
            assert a <= b
        for a, b in zip(after.layer_ffn_units, before.layer_ffn_units, strict=True):
            assert a <= b
    if source.rank == goal[2]:
        assert all(target.embedding_rank == source.embedding_rank for target in targets)


@given(
    targets=st.integers(0, 30),
    extra=st.integers(0, 5000),
    fraction=st.floats(0.001, 1, exclude_min=False),
)
def test_events_are_spread_over_the_fraction(targets, extra, fraction):
    total = targets + extra + 1
    events = at_equal_distances((BASE,) * targets, total, fraction)
    steps = [event.step for event in events]
    assert len(steps) == targets
    assert steps == sorted(set(steps))
    if not targets:
        return
    end = round(fraction * total)
    assert steps[0] >= 1
    assert steps[-1] <= total
    if end < targets:
        assert steps == list(range(1, targets + 1))
    else:
        # Of two steps that are as near, either.
        assert abs(steps[-1] - fraction * total) <= 0.5 + 1e-9 * total
        gaps = [b - a for a, b in zip([0, *steps], steps, strict=False)]
        assert max(gaps) - min(gaps) <= 2


def test_the_papers_events():
    events = at_equal_distances(width_targets(BASE, 2, 512, 128, 10), 5000, 0.1)
    assert [event.step for event in events] == [50 * k for k in range(1, 11)]
    assert events[-1].shape == narrowed(BASE, 2, 512, 128)


def test_requests_that_cannot_be_met_are_named():
    for make, message in (
        (lambda: width_targets(BASE, 13, 512, 128, 10), r"keep_heads must be in \[1, 12\].*got 13"),
        (lambda: width_targets(BASE, 2, 9999, 128, 10), r"ffn_units must be in \[1, 3072\]"),
        (lambda: width_targets(BASE, 2, 512, 769, 10), r"embedding_rank must be in \[1, 768\]"),
        (lambda: width_targets(BASE, 2, 512, 128, 0), r"prune_steps must be at least 1, got 0"),
        (lambda: depth_targets(BASE, 13), r"keep_layers must be in \[1, 12\].*got 13"),
        (lambda: depth_targets(BASE, 0), r"keep_layers must be in \[1, 12\].*got 0"),
        (lambda: at_equal_distances((BASE,), 9, 0), r"prune_fraction must be in \(0, 1\], got 0"),
        (
            lambda: at_equal_distances((BASE,), 9, 1.5),
            r"prune_fraction must be in \(0, 1\], got 1.5",
        ),
        (
            lambda: at_equal_distances((BASE,) * 4, 3, 1),
            r"prune_steps must be at most 3 steps, got 4",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()
