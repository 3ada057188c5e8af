"""A model that is no better than chance is weak, and one whose classes are mixed up is seen."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from rosita_core.measuring.metrics import (
    LEAST_VARIATION,
    choice_of_numbers,
    compute_metrics,
    variation,
)
from rosita_core.measuring.weakness import from_document, weakness


def labels(rows, classes, seed=0, shares=None):
    return np.random.default_rng(seed).choice(classes, rows, p=shares)


def right_on(labels_N, share, classes, seed=0):
    """Predictions that are right on a share of the rows and drawn on the others."""
    random = np.random.default_rng(seed + 1000)
    known = random.random(len(labels_N)) < share
    return np.where(known, labels_N, random.integers(0, classes, len(labels_N)))


@pytest.mark.parametrize("metric", ["accuracy", "f1", "mcc"])
@pytest.mark.parametrize("classes", [2, 5])
def test_what_learned_something_is_not_weak(metric, classes):
    true = labels(300, classes)
    assert not weakness(metric, true, true, classes).weak
    assert not weakness(metric, right_on(true, 0.5, classes), true, classes).weak


@pytest.mark.parametrize("metric", ["accuracy", "f1", "macro_f1", "mcc"])
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.5, 0.3)])
def test_the_most_frequent_class_alone_is_weak(metric, shares):
    true = labels(400, len(shares), shares=shares)
    constant = np.full(400, np.bincount(true).argmax())
    found = weakness(metric, constant, true, len(shares))
    assert found.weak
    assert found.order is None


@pytest.mark.parametrize("metric", ["accuracy", "mcc", "pearson"])
def test_one_guess_in_twenty_passes_for_more_than_chance(metric):
    regression = metric == "pearson"
    passed = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        true, guessed = random.normal(size=(2, 200)) if regression else labels((2, 200), 2, seed)
        passed += not weakness(metric, guessed, true, 1 if regression else 2).weak
    # A share is held against that of the most frequent class, which is above a half.
    assert (0 if metric == "accuracy" else 400 * 0.02) <= passed <= 400 * 0.08


@pytest.mark.parametrize(("rows", "right"), [(20, 15), (300, 200), (2000, 1600)])
def test_a_model_of_the_bounds_accuracy_does_so_well_once_in_twenty(rows, right):
    true = np.arange(rows) % 2
    found = weakness("accuracy", np.where(np.arange(rows) < right, true, 1 - true), true, 2)
    assert binom.sf(right - 1, rows, found.bound) == pytest.approx(0.05)


@pytest.mark.parametrize("rows", [10, 200])
def test_the_bound_of_a_correlation_is_1_645_standard_errors_below(rows):
    true, noise = np.random.default_rng(rows).normal(size=(2, rows))
    found = weakness("pearson", true + noise, true, 1)
    distance = np.arctanh(found.value) - np.arctanh(found.bound)
    assert distance == pytest.approx(1.6449 / np.sqrt(rows - 3), rel=1e-4)


def test_the_bound_comes_closer_with_more_rows():
    bounds = []
    for rows in (20, 200, 2000):
        true = np.tile([0, 1], rows // 2)
        predicted = np.where(np.arange(rows) % 10 < 2, 1 - true, true)
        found = weakness("accuracy", predicted, true, 2)
        assert found.value == pytest.approx(0.8)
        bounds.append(found.bound)
    assert bounds == sorted(bounds)
    assert 0.75 < bounds[-1] < 0.8


@pytest.mark.parametrize("metric", ["pearson", "spearman", "pearson_spearman"])
def test_numbers_are_held_against_no_correlation(metric):
    random = np.random.default_rng(0)
    true = random.normal(size=100)
    near = true + random.normal(size=100)
    assert not weakness(metric, near, true, 1).weak
    assert not weakness(metric, true, true, 1).weak
    assert weakness(metric, -near, true, 1).weak
    assert weakness(metric, np.zeros(100), true, 1).weak
    assert weakness(metric, true[:3], true[:3], 1).weak


@pytest.mark.parametrize("noise", [0.2, 5.0])
@given(st.floats(1e-6, 1e6), st.floats(-1e3, 1e3), st.integers(0, 99))
def test_numbers_that_hardly_vary_are_weak_however_they_correlate(noise, scale, shift, seed):
    random = np.random.default_rng(seed)
    true = random.normal(0, 1, size=200)
    near = true + random.normal(0, noise, size=200)
    near *= true.std() / near.std()
    for share in (1e-3, 0.04, 0.06, 3.0):
        # In another unit of both.
        said, labels = (share * near) * scale + shift, true * scale + shift
        found = weakness("pearson", said, labels, 1)
        assert found.variation == pytest.approx(share, rel=1e-3)
        assert found.alike is (share < LEAST_VARIATION)
        # With the smaller noise they correlate by more than chance, with the larger one not always.
        assert found.weak or share > LEAST_VARIATION
        assert not found.weak or share < LEAST_VARIATION or noise > 1
        # From there on the score chooses, and below it more the more they vary.
        chosen = choice_of_numbers(found.value, said, labels)
        expected = found.value * min(1.0, share / LEAST_VARIATION)
        assert chosen == pytest.approx(expected, rel=1e-3)
        assert choice_of_numbers(-found.value, said, labels) == -found.value
    assert weakness("pearson", np.full(200, 0.1), true, 1).variation == pytest.approx(0)
    assert choice_of_numbers(0.9, np.full(200, 0.1), true) == pytest.approx(0)
    assert variation(true, np.full(200, 0.1)) is None


@pytest.mark.parametrize("order", [(1, 0), (2, 0, 1), (0, 2, 1)])
def test_classes_in_another_order_are_found(order):
    classes = len(order)
    true = labels(300, classes)
    predicted = np.array(order)[right_on(true, 0.9, classes)]
    found = weakness("accuracy", predicted, true, classes)
    assert found.order == order
    meant = np.argsort(order)[predicted]
    assert found.reordered == pytest.approx(compute_metrics(["accuracy"], meant, true)["accuracy"])


@pytest.mark.parametrize("classes", [2, 3, 30])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_classes_in_their_order_are_left_alone(share, classes):
    for seed in range(20):
        true = labels(200, classes, seed)
        guessed = right_on(true, share, classes, seed)
        assert weakness("accuracy", guessed, true, classes).order is None


def test_it_comes_back_from_json():
    true = labels(100, 3)
    for predicted in (true, (true + 1) % 3):
        found = weakness("accuracy", predicted, true, 3)
        assert from_document(json.loads(json.dumps(found.document()))) == found
    found = weakness("pearson", true * 1e-3, true, 1)
    assert found.alike
    assert from_document(json.loads(json.dumps(found.document()))) == found
