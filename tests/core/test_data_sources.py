"""Which rows a limit leaves: a sample that keeps classes, order and its choice."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosita_core.data.sources import sample
from rosita_core.data.table import normalized_frame


def table(counts: list[int]) -> pd.DataFrame:
    """Rows sorted by class, as sources often are, with a text of their own each."""
    labels = [code for code, count in enumerate(counts) for _ in range(count)]
    texts = [f"row {number}" for number in range(len(labels))]
    return normalized_frame(texts, None, labels, "classification")


COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@given(counts=COUNTS, rows=st.integers(1, 120), seed=st.integers(0, 5))
def test_sample_keeps_the_shares_of_the_classes(counts: list[int], rows: int, seed: int) -> None:
    frame = table(counts)
    taken = sample(frame, rows, seed, stratified=True)
    assert len(taken) == min(rows, len(frame))
    found = taken["label"].value_counts()
    for code, count in enumerate(counts):
        if rows >= len(counts):
            assert found[code] >= 1
        # Off by one for the remainder, and by what the rare classes are given.
        exact = min(rows, len(frame)) * count / len(frame)
        assert abs(found.get(code, 0) - exact) <= len(counts)


@given(counts=COUNTS, rows=st.integers(1, 120), seed=st.integers(0, 5))
def test_sample_keeps_the_order_and_depends_on_the_seed_alone(
    counts: list[int], rows: int, seed: int
) -> None:
    frame = table(counts)
    taken = sample(frame, rows, seed, stratified=True)
    positions = [int(text.split()[1]) for text in taken["text_a"]]
    assert positions == sorted(positions)
    assert list(taken.index) == list(range(len(taken)))
    mixed = frame.iloc[np.random.default_rng(0).permutation(len(frame))].reset_index(drop=True)
    again = sample(mixed, rows, seed, stratified=True)
    assert set(again["text_a"]) == set(taken["text_a"])


def test_another_seed_takes_other_rows() -> None:
    frame = table([50, 50])
    first, second = (sample(frame, 20, seed, stratified=True) for seed in (1, 2))
    assert set(first["text_a"]) != set(second["text_a"])


def test_sample_of_numbers_and_of_duplicates() -> None:
    texts = ["the same"] * 30 + [f"row {number}" for number in range(30)]
    frame = normalized_frame(texts, None, [0.5 * n for n in range(60)], "regression")
    taken = sample(frame, 25, 3, stratified=False)
    assert len(taken) == 25
    assert taken["label"].is_monotonic_increasing


def test_sample_refuses_a_limit_below_1() -> None:
    with pytest.raises(ValueError, match="limit_rows must be at least 1, got 0"):
        sample(table([3]), 0, 1, stratified=True)
