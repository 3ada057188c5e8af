"""Metrics: their definitions, their symmetries, and what they say where they are undefined."""

import math
import warnings

import numpy as np
import pytest

from rosita_core.data.task_spec import GLUE
from rosita_core.measuring.metrics import compute_metrics, with_suffix
from rosita_core.measuring.score import Scoring, score_logits

CLASSES = ("mcc", "accuracy", "f1", "macro_f1")
NUMBERS = ("pearson", "spearman", "pearson_spearman")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_binary_metrics_follow_from_the_confusion_counts(rng):
    predicted, true = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    tp = int(((predicted == 1) & (true == 1)).sum())
    tn = int(((predicted == 0) & (true == 0)).sum())
    fp = int(((predicted == 1) & (true == 0)).sum())
    fn = int(((predicted == 0) & (true == 1)).sum())
    found = compute_metrics(CLASSES, predicted, true)
    assert list(found) == list(CLASSES)
    assert found["accuracy"] == pytest.approx((tp + tn) / 200)
    assert found["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    other = 2 * tn / (2 * tn + fp + fn)
    assert found["macro_f1"] == pytest.approx((found["f1"] + other) / 2)
    root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert found["mcc"] == pytest.approx((tp * tn - fp * fn) / root)


def test_perfect_predictions_score_one_and_opposite_ones_minus_one(rng):
    true = rng.integers(0, 2, 50)
    assert set(compute_metrics(CLASSES, true, true).values()) == {1.0}
    assert compute_metrics(["mcc"], 1 - true, true)["mcc"] == pytest.approx(-1)
    scores = rng.normal(size=50)
    assert compute_metrics(NUMBERS, scores, scores) == pytest.approx(dict.fromkeys(NUMBERS, 1))
    assert compute_metrics(NUMBERS, -scores, scores) == pytest.approx(dict.fromkeys(NUMBERS, -1))


def test_pearson_ignores_scale_spearman_any_monotone_map(rng):
    predicted, true = rng.normal(size=80), rng.normal(size=80)
    base = compute_metrics(NUMBERS, predicted, true)
    scaled = compute_metrics(NUMBERS, 3 * predicted - 7, true)
    assert scaled == pytest.approx(base)
    bent = compute_metrics(NUMBERS, np.exp(predicted), true)
    assert bent["spearman"] == pytest.approx(base["spearman"])
    assert bent["pearson"] != pytest.approx(base["pearson"])
    assert base["pearson"] == pytest.approx(np.corrcoef(predicted, true)[0, 1])
    assert base["pearson_spearman"] == pytest.approx((base["pearson"] + base["spearman"]) / 2)


def test_r2_is_the_squared_error_that_the_mean_would_have_and_numbers_have_not(rng):
    true = rng.normal(3, 7, size=80)
    predicted = true + rng.normal(size=80)

    def r2(numbers, labels=true):
        return compute_metrics(["r2"], numbers, labels)["r2"]

    expected = 1 - np.square(predicted - true).sum() / np.square(true - true.mean()).sum()
    assert r2(predicted) == pytest.approx(expected)
    assert r2(1e6 * predicted - 5, 1e6 * true - 5) == pytest.approx(expected)
    assert (r2(true), r2(np.full(80, true.mean()))) == (pytest.approx(1), pytest.approx(0))
    assert r2(np.full(80, true.mean() + 1)) < 0
    # The line of least squares has the square of Pearson's, and no other line has more.
    pearson = compute_metrics(["pearson"], predicted, true)["pearson"]
    slope, start = np.polyfit(predicted, true, 1)
    assert r2(slope * predicted + start) == pytest.approx(pearson**2)
    assert r2(predicted) < pearson**2
    # Of numbers that hardly vary it says so; a correlation does not.
    assert r2(true.mean() + 1e-3 * (predicted - true.mean())) < 0.01 < 0.9 < pearson
    assert r2([1.0, 2.0], [0.1, 0.1]) == r2([1.0], [1.0]) == 0.0


def test_macro_f1_counts_every_class_alike_and_none_that_is_not_there():
    true = np.array([0] * 8 + [1] + [3])
    found = compute_metrics(["macro_f1"], np.array([0] * 8 + [1] + [1]), true)["macro_f1"]
    assert found == pytest.approx((1 + 2 / 3 + 0) / 3)
    names = np.array([7, 2, 5, 0])
    assert compute_metrics(["macro_f1"], names[np.array([0] * 8 + [1] + [1])], names[true]) == {
        "macro_f1": pytest.approx(found)
    }


def test_three_classes_have_accuracy_and_mcc_but_no_f1():
    found = compute_metrics(["accuracy", "mcc"], [0, 1, 2, 2], [0, 1, 2, 1])
    assert found["accuracy"] == 0.75
    assert 0 < found["mcc"] < 1
    with pytest.raises(ValueError, match="f1 needs the classes 0 and 1, got class 2"):
        compute_metrics(["f1"], [0, 1, 2], [0, 1, 1])


@pytest.mark.parametrize("value", [0, 1])
def test_constant_predictions_score_zero_without_a_warning(value):
    true = np.array([0, 1, 1, 0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compute_metrics([*CLASSES, *NUMBERS], np.full(5, value), true)
        one_class = compute_metrics(["mcc", "f1"], np.zeros(5, int), np.zeros(5, int))
        rounding = compute_metrics(NUMBERS, 2.5 + np.arange(5) * 4e-16, true)
        compute_metrics(NUMBERS, 2.5 + np.arange(5) * 1e-10, true)
        compute_metrics(NUMBERS, np.float32(2.5) + np.arange(5, dtype="f4") * 3e-7, true)
        single = compute_metrics([*CLASSES, *NUMBERS], [1], [1])
    assert found["mcc"] == 0.0
    assert [found[name] for name in NUMBERS] == [0.0] * 3
    assert found["accuracy"] == (true == value).mean()
    assert one_class == {"mcc": 0.0, "f1": 0.0}
    assert set(rounding.values()) == {0.0}
    assert (single["accuracy"], single["mcc"], single["pearson"]) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("names", "predicted", "true", "message"),
    [
        (["bleu"], [0], [0], "metric must be one of mcc, accuracy, f1, .*, got 'bleu'"),
        (["mcc"], [0, 1], [0], r"one shape \(N,\) .*, got \(2,\) and \(1,\)"),
        (["mcc"], [[0], [1]], [[0], [1]], r"got \(2, 1\) and \(2, 1\)"),
        (["mcc"], [], [], r"N of at least 1, got \(0,\)"),
        (["pearson"], [0.0, np.nan], [0.0, 1.0], "predictions must be finite, got nan in row 2"),
        (["pearson"], [0.0, 1.0], [np.inf, 1.0], "labels must be finite, got inf in row 1"),
        (["accuracy"], [0.2, 0.9], [0, 1], r"predictions must be class indices .* got float64"),
        (["accuracy"], [0, 1], [0.0, 1.0], r"labels must be class indices .* got float64"),
    ],
)
def test_unusable_input_is_a_one_line_error(names, predicted, true, message):
    with pytest.raises(ValueError, match=message):
        compute_metrics(names, predicted, true)


# CoLA and STS-B as GLUE has them; of the tasks with accuracy and F1, accuracy decides.
DECIDES = {
    "cola": "mcc",
    "sst2": "accuracy",
    "mrpc": "accuracy",
    "stsb": "pearson_spearman",
    "qqp": "accuracy",
    "mnli": "accuracy",
    "qnli": "accuracy",
    "rte": "accuracy",
    "wnli": "accuracy",
}


def by_definition(name, predicted, true):
    """The metric without the code under test; ranks have no ties here."""
    if name == "accuracy":
        return (predicted == true).mean()
    pearson = np.corrcoef(predicted, true)[0, 1]
    if name == "mcc":
        # Matthews' coefficient is Pearson's of zeros and ones.
        return pearson
    ranks = (values.argsort().argsort() for values in (predicted, true))
    return (pearson + np.corrcoef(*ranks)[0, 1]) / 2


def test_every_task_of_glue_has_the_metric_that_decides():
    assert {name: task.score for name, task in GLUE.items()} == DECIDES


@pytest.mark.parametrize("name", DECIDES)
def test_the_score_is_the_metric_that_decides(name, rng):
    """On rows where accuracy, F1 and MCC differ, and Pearson and Spearman."""
    task = GLUE[name]
    scoring = Scoring(task.metrics, task.score, task.kind == "regression", 8, 16)
    if task.kind == "regression":
        true = rng.normal(size=40)
        predicted = np.exp(true + rng.normal(size=40))
        logits = predicted[:, None]
        others = {"pearson", "spearman"}
    else:
        true = np.array([1] * 6 + [0] * 4)
        predicted = np.array([1] * 5 + [0] + [1] * 3 + [0])
        logits = np.eye(len(task.labels))[predicted]
        others = {"accuracy", "f1", "mcc"} - {DECIDES[name]}
    score = score_logits(logits, true, scoring)["score"]
    assert score == pytest.approx(by_definition(DECIDES[name], predicted, true))
    for other in compute_metrics(sorted(others), predicted, true).values():
        assert abs(score - other) > 0.01


def test_the_second_dev_split_keeps_its_own_names():
    assert with_suffix({"accuracy": 0.5}, "mismatched") == {"accuracy_mismatched": 0.5}
