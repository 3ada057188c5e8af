"""Whether two models differ: symmetry, identity, known values, and intervals that cover."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.stats import binom, t, ttest_rel

from rosita_core.data.task_spec import CLASS_METRICS
from rosita_core.measuring.metrics import compute_metrics
from rosita_core.measuring.significance.comparison import (
    SMALLEST_P,
    _by_students_t,
    _of_trainings,
    holm,
    mcnemar,
    paired_bootstrap,
    pareto_front,
    spread,
)
from rosita_core.measuring.significance.resampled import grouped_rows, resampled_scores

NUMBER_METRICS = ("pearson", "spearman", "pearson_spearman")
USUAL = {"resamples": 2_000, "confidence": 0.95, "seed": 7}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def predictions(rng, labels, accuracy, seeds=1):
    """(S, N) classes that are right with the given probability."""
    wrong = rng.random((seeds, len(labels))) > accuracy
    return np.where(wrong, 1 - labels, labels)


def rated(rng, labels, noise, seeds=1):
    """(S, N) numbers around the labels, rounded so that there are ties."""
    return np.round(labels + noise * rng.normal(size=(seeds, len(labels))), 1)


def test_spread_is_that_of_a_sample():
    found = spread([0.8, 0.9, 1.0])
    assert (found.mean, found.sd, found.count) == (pytest.approx(0.9), pytest.approx(0.1), 3)
    assert spread([0.5]).sd is None


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0, float("inf")]])
def test_spread_needs_finite_numbers(values):
    with pytest.raises(ValueError, match="values must be finite numbers"):
        spread(values)


def test_mcnemar_counts_the_rows_on_which_one_is_right():
    labels = np.zeros(20, dtype=int)
    a, b = np.zeros(20, dtype=int), np.zeros(20, dtype=int)
    a[:1] = 1
    b[5:14] = 1
    found = mcnemar(labels, a, b)
    assert (found.only_a, found.only_b) == (9, 1)
    # Ten coins: 2 * (1 + 10) / 2^10.
    assert found.p == pytest.approx(22 / 1024)


def test_mcnemar_is_the_binomial_tail_and_symmetric(rng):
    labels = rng.integers(0, 2, 500)
    a, b = predictions(rng, labels, 0.9)[0], predictions(rng, labels, 0.85)[0]
    found, other = mcnemar(labels, a, b), mcnemar(labels, b, a)
    fewer = min(found.only_a, found.only_b)
    tail = 2 * binom.cdf(fewer, found.only_a + found.only_b, 0.5)
    assert found.p == pytest.approx(min(1.0, tail))
    assert (found.p, found.only_a, found.only_b) == (other.p, other.only_b, other.only_a)
    assert mcnemar(labels, a, a).p == 1.0


def test_mcnemar_needs_the_same_rows():
    with pytest.raises(ValueError, match=r"one shape \(N,\), got \(3,\), \(3,\) and \(2,\)"):
        mcnemar([0, 1, 1], [0, 1, 1], [0, 1])


@pytest.mark.parametrize("metric", [*CLASS_METRICS, *NUMBER_METRICS])
def test_a_resample_scores_what_its_rows_score(rng, metric):
    labels = rng.integers(0, 2, 60)
    models = predictions(rng, labels, 0.7, seeds=3)
    if metric in NUMBER_METRICS:
        labels = np.round(rng.random(60) * 5, 1)
        models = rated(rng, labels, 1.0, seeds=3)
    rows = grouped_rows(labels, models)
    weights = rows.draw(rng, 25)
    scores = resampled_scores(metric, rows, weights)
    assert (weights.sum(1) == 60).all()
    for resample, counts in enumerate(weights.astype(int)):
        for model in range(3):
            drawn = np.repeat(rows.predictions[model], counts)
            true = np.repeat(rows.labels, counts)
            expected = compute_metrics([metric], drawn, true)[metric]
            assert scores[resample, model] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("metric", ["mcc", "macro_f1"])
def test_metrics_of_several_classes_in_a_resample(rng, metric):
    # The last class is so rare that a resample may have none of it.
    labels = np.append(rng.integers(0, 3, 89), 4)
    models = np.where(rng.random((2, 90)) < 0.6, labels, rng.integers(0, 3, (2, 90)))
    rows = grouped_rows(labels, models)
    weights = rows.draw(rng, 20)
    scores = resampled_scores(metric, rows, weights)
    for resample, counts in enumerate(weights.astype(int)):
        drawn, true = np.repeat(rows.predictions[1], counts), np.repeat(rows.labels, counts)
        expected = compute_metrics([metric], drawn, true)[metric]
        assert scores[resample, 1] == pytest.approx(expected)


@pytest.mark.parametrize("rows", [40, 4_000])
def test_both_ways_of_drawing_give_every_row_the_same_chance(rng, rows):
    labels = rng.integers(0, 2, rows)
    grouped = grouped_rows(labels, predictions(rng, labels, 0.8, seeds=3))
    mean = grouped.draw(rng, 4_000).mean(0)
    assert np.allclose(mean, grouped.sizes, atol=5 * np.sqrt(grouped.sizes.max() / 4_000))


def test_drawing_rows_one_by_one_agrees_with_drawing_groups(rng):
    # 60 rows in 8 groups are drawn as groups; the same with a column that tells rows apart.
    labels = rng.integers(0, 2, 60)
    models = predictions(rng, labels, 0.7, seeds=2)
    grouped = grouped_rows(labels, models)
    alone = grouped_rows(labels, np.vstack([models, np.arange(60)]))
    assert grouped.groups * 4 < 60 <= alone.groups * 4
    spreads = [
        resampled_scores("accuracy", rows, rows.draw(rng, 20_000))[:, :2].std(0)
        for rows in (grouped, alone)
    ]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.03)


@pytest.mark.parametrize("metric", [*CLASS_METRICS, *NUMBER_METRICS])
def test_swapping_the_models_mirrors_the_interval(rng, metric):
    labels = rng.integers(0, 2, 150)
    a, b = predictions(rng, labels, 0.8, 3), predictions(rng, labels, 0.75, 3)
    if metric in NUMBER_METRICS:
        labels = rng.random(150)
        a, b = rated(rng, labels, 0.3, 3), rated(rng, labels, 0.5, 3)
    one = paired_bootstrap(metric, labels, a, b, same_seeds=True, **USUAL)
    other = paired_bootstrap(metric, labels, b, a, same_seeds=True, **USUAL)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert one.p == pytest.approx(other.p)
    assert one.low <= one.value <= one.high


@pytest.mark.parametrize("metric", [*CLASS_METRICS, *NUMBER_METRICS])
def test_a_model_does_not_differ_from_itself(rng, metric):
    labels = rng.integers(0, 2, 80) if metric in CLASS_METRICS else rng.random(80)
    a = predictions(rng, labels, 0.8, 3) if metric in CLASS_METRICS else rated(rng, labels, 1, 3)
    found = paired_bootstrap(metric, labels, a, a, same_seeds=True, **USUAL)
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_the_same_seed_gives_the_same_answer_and_chunks_do_not_matter(rng, monkeypatch):
    labels = rng.integers(0, 2, 300)
    a, b = predictions(rng, labels, 0.9), predictions(rng, labels, 0.8)
    one = paired_bootstrap("accuracy", labels, a, b, same_seeds=True, **USUAL)
    again = paired_bootstrap("accuracy", labels, a, b, same_seeds=True, **USUAL)
    assert one == again
    monkeypatch.setattr("rosita_core.measuring.significance.comparison._ELEMENTS", 500)
    assert paired_bootstrap("accuracy", labels, a, b, same_seeds=True, **USUAL) == one


def test_a_large_difference_is_told_apart_and_a_small_one_is_not(rng):
    labels = rng.integers(0, 2, 872)
    good, bad = predictions(rng, labels, 0.95, 3), predictions(rng, labels, 0.7, 3)
    far = paired_bootstrap("accuracy", labels, good, bad, same_seeds=True, **USUAL)
    assert far.low > 0.15
    assert far.p < 0.01
    alike = paired_bootstrap(
        "accuracy", labels, good, predictions(rng, labels, 0.95, 3), same_seeds=True, **USUAL
    )
    assert alike.low < 0 < alike.high
    assert alike.p > 0.05


def test_configurations_may_have_other_numbers_of_seeds(rng):
    labels = rng.integers(0, 2, 200)
    a, b = predictions(rng, labels, 0.9, 5), predictions(rng, labels, 0.7, 4)
    found = paired_bootstrap("accuracy", labels, a, b, same_seeds=False, **USUAL)
    assert 0 < found.low < found.value < found.high
    with pytest.raises(ValueError, match="as many seeds to be paired, got 5 and 4"):
        paired_bootstrap("accuracy", labels, a, b, same_seeds=True, **USUAL)


def test_trainings_that_vary_widen_the_interval(rng):
    labels = rng.integers(0, 2, 2_000)
    steady = predictions(rng, labels, 0.8, 3)
    varied = np.concatenate([predictions(rng, labels, q) for q in (0.7, 0.8, 0.9)])
    other = predictions(rng, labels, 0.8, 3)
    narrow, wide = (
        paired_bootstrap("accuracy", labels, a, other, same_seeds=True, **USUAL)
        for a in (steady, varied)
    )
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def covered(rng, trials, rows, seeds, seed_sd, row_sd):
    """Share of 95 % intervals that hold the true difference, for simulated models.

    A row is right with a probability that depends on the row (the same for all models, which makes
    the comparison a paired one) and on the training.
    """
    hits = 0
    for trial in range(trials):
        labels = np.zeros(rows, dtype=int)
        row = row_sd * rng.normal(size=rows)
        a, b = (
            (
                rng.random((seeds, rows))
                > np.clip(base + seed_sd * rng.normal(size=(seeds, 1)) + row, 0, 1)
            ).astype(int)
            for base in (0.75, 0.7)
        )
        found = paired_bootstrap(
            "accuracy",
            labels,
            a,
            b,
            same_seeds=True,
            resamples=300,
            confidence=0.95,
            seed=trial,
        )
        hits += found.low <= 0.05 <= found.high
    return hits / trials


def test_the_interval_covers_the_truth_as_often_as_it_says(rng):
    assert 0.9 <= covered(rng, 200, 300, 1, 0.0, 0.08) <= 0.985


def test_the_interval_over_seeds_is_not_too_narrow(rng):
    assert covered(rng, 150, 300, 3, 0.01, 0.08) >= 0.92


def refused(rng, trials, seeds, rows_share, at):
    """Share of p values below `at` where nothing differs; the seeds' part of the variance is 1."""
    by_chance = []
    for _ in range(trials):
        scores = rng.normal(size=seeds) * seeds**0.5 + rng.normal() * rows_share**0.5
        parts = [(rows_share, 871), (scores.var(ddof=1) / seeds, seeds - 1)]
        by_chance.append(_by_students_t(scores.mean(), parts, 0.95).p < at)
    return np.mean(by_chance)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("rows_share", [0.0, 0.1, 1.0, 10.0])
def test_few_seeds_do_not_look_told_apart(rng, seeds, rows_share):
    """Also far out, where Holm's correction looks: three seeds may agree by chance."""
    assert refused(rng, 1_500, seeds, rows_share, 0.05) <= 0.05 + 0.02
    assert refused(rng, 1_500, seeds, rows_share, 0.005) <= 0.005 + 0.006


def test_trainings_that_vary_much_are_covered(rng):
    assert covered(rng, 300, 300, 3, 0.05, 0.0) >= 0.92


def test_of_many_rows_it_is_the_t_test_of_the_seeds(rng):
    labels = np.zeros(50_000, dtype=int)
    shares = [(0.80, 0.84, 0.91, 0.78), (0.78, 0.83, 0.85, 0.79)]
    a, b = (np.concatenate([predictions(rng, labels, q) for q in of]) for of in shares)
    scores = [(models == 0).mean(1) for models in (a, b)]
    found = paired_bootstrap("accuracy", labels, a, b, same_seeds=True, **USUAL)
    assert found.p == pytest.approx(ttest_rel(*scores).pvalue, rel=0.05)
    low, high = ttest_rel(*scores).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), rel=0.05)


def test_p_and_interval_say_the_same(rng):
    labels = rng.integers(0, 2, 400)
    a, b = predictions(rng, labels, 0.85, 3), predictions(rng, labels, 0.75, 3)
    found = paired_bootstrap("accuracy", labels, a, b, same_seeds=True, **USUAL)
    given = {**USUAL, "confidence": 1 - found.p}
    at_p = paired_bootstrap("accuracy", labels, a, b, same_seeds=True, **given)
    assert at_p.low == pytest.approx(0.0, abs=1e-6)


def test_a_lone_seed_varies_as_those_that_it_is_compared_with(rng):
    """Three seeds that vary, against a fourth of the same kind."""
    labels = np.zeros(50_000, dtype=int)
    a = np.concatenate([predictions(rng, labels, q) for q in (0.80, 0.84, 0.88)])
    b = predictions(rng, labels, 0.80)
    found = paired_bootstrap("accuracy", labels, a, b, same_seeds=False, **USUAL)
    other = paired_bootstrap("accuracy", labels, b, a, same_seeds=False, **USUAL)
    half = t.isf(0.025, 2) * 0.04 * (1 / 3 + 1) ** 0.5
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)
    assert (found.low, found.p) == pytest.approx((-other.high, other.p), rel=1e-6)


def test_of_few_rows_that_all_differ_it_is_that_of_coins():
    labels, right, wrong = np.zeros(5, dtype=int), np.zeros(5, dtype=int), np.ones(5, dtype=int)
    found = paired_bootstrap("accuracy", labels, right, wrong, same_seeds=True, **USUAL)
    assert (found.value, found.low, found.high, found.p) == (1.0, 0.0, 2.0, 2 / 2**5)
    labels, right, wrong = (np.tile(one, 300) for one in (labels, right, wrong))
    found = paired_bootstrap("accuracy", labels, right, wrong, same_seeds=True, **USUAL)
    assert (found.value, found.low, found.high, found.p) == (1.0, 1.0, 1.0, SMALLEST_P)


@pytest.mark.parametrize("metric", NUMBER_METRICS)
@pytest.mark.parametrize("unit", [1e-18, 1e12])
def test_the_unit_of_numbers_decides_nothing(rng, metric, unit):
    labels = rng.random(300)
    a, b = rated(rng, labels, 0.3, 3), rated(rng, labels, 0.32, 3)
    found, other = (
        paired_bootstrap(metric, labels * u, a * u, b * u, same_seeds=True, **USUAL)
        for u in (1.0, unit)
    )
    assert (other.low, other.high, other.p) == pytest.approx((found.low, found.high, found.p))


@pytest.mark.parametrize(("few", "many"), [(2, 5), (3, 5), (2, 3)])
def test_unequal_seeds_of_unequal_spread_do_not_look_told_apart(rng, few, many):
    alarms = 0
    for _ in range(1_500):
        scores = [rng.normal(size=few) * 0.03, rng.normal(size=many) * 0.005]
        value = scores[0].mean() - scores[1].mean()
        alarms += _by_students_t(value, [(0.0, 871), *_of_trainings(scores)], 0.95).p < 0.05
    assert alarms / 1_500 <= 0.05 + 0.02


def test_wrong_arguments_are_named(rng):
    labels = rng.integers(0, 2, 10)
    a = predictions(rng, labels, 0.8)
    good = {"same_seeds": True, **USUAL}
    with pytest.raises(ValueError, match=r"b must have shape \(S, 10\), got \(1, 9\)"):
        paired_bootstrap("accuracy", labels, a, a[:, :9], **good)
    with pytest.raises(ValueError, match="resamples must be at least 100, got 10"):
        paired_bootstrap("accuracy", labels, a, a, **{**good, "resamples": 10})
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got 95"):
        paired_bootstrap("accuracy", labels, a, a, **{**good, "confidence": 95})
    with pytest.raises(ValueError, match="metric must be one of"):
        paired_bootstrap("taste", labels, a, a, **good)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(rng):
    values = rng.random(12).tolist()
    adjusted = holm(values)
    assert np.argsort(adjusted, kind="stable").tolist() == np.argsort(values).tolist() or sorted(
        adjusted
    ) == [adjusted[i] for i in np.argsort(values)]
    assert all(p <= q <= min(1, 12 * p) for p, q in zip(values, adjusted, strict=True))
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got 1.5"):
        holm([1.5])


def test_no_point_beats_one_on_the_pareto_front(rng):
    costs, scores = rng.integers(1, 20, 60).tolist(), rng.integers(1, 20, 60).tolist()
    front = pareto_front(costs, scores)
    for i in range(60):
        beaten = any(
            (costs[j] <= costs[i] and scores[j] >= scores[i])
            and (costs[j], scores[j]) != (costs[i], scores[i])
            for j in range(60)
        )
        assert (i in front) != beaten
    assert [costs[i] for i in front] == sorted(costs[i] for i in front)


def test_memory_does_not_grow_with_the_classes(rng):
    labels = rng.integers(0, 300, 2_000)
    models = np.where(rng.random((2, 2_000)) < 0.7, labels, rng.integers(0, 300, (2, 2_000)))
    tracemalloc.start()
    paired_bootstrap(
        "macro_f1",
        labels,
        models[:1],
        models[1:],
        same_seeds=True,
        resamples=300,
        confidence=0.95,
        seed=0,
    )
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Two arrays of 4 million numbers of 8 bytes, and what is made of them.
    assert most < 150e6
