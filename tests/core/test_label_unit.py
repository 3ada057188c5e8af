"""A regression is trained in standard scores of its labels, and answers in labels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rosita_core.measuring.score import Scoring, predict_logits, scorer
from rosita_core.model.checkpoint import copied
from rosita_core.training.answers import in_labels, in_standard_scores
from rosita_core.training.label_unit import (
    LabelUnit,
    label_unit,
    load_unit,
    rows_in_standard_scores,
    save_unit,
    unit_of_answers,
)

numbers = st.floats(-1e4, 1e4, allow_nan=False)


def regression(sized, **changes):
    return sized((2, 2), (8, 8), num_labels=1, problem_type="regression", **changes)


@settings(max_examples=50, deadline=None)
@given(st.lists(numbers, min_size=2, max_size=30))
def test_labels_in_their_unit_have_mean_0_and_deviation_1(values):
    labels = np.array(values)
    unit = label_unit(labels)
    scores = (labels - unit.mean) / unit.deviation
    if labels.std() > 1e-3:
        assert abs(scores.mean()) < 1e-6
        assert scores.std() == pytest.approx(1.0)
    assert np.allclose(scores * unit.deviation + unit.mean, labels)
    assert unit.deviation > 0


@pytest.mark.parametrize("number", [2.5, 0.1, 0.7])
@pytest.mark.parametrize("count", [1, 3, 60])
def test_equal_labels_have_a_deviation_that_divides(number, count):
    """That of equal floats is not always 0."""
    unit = label_unit(np.full(count, number))
    assert (unit.mean, unit.deviation) == (pytest.approx(number), 1.0)


def scored(numbers, unit):
    return (numbers - unit.mean) / unit.deviation


def test_answers_in_another_unit_have_the_standard_scores_of_labels():
    rng = np.random.default_rng(0)
    labels = rng.normal(70, 10, 400)
    unit = LabelUnit(69.0, 11.0)
    scores = scored(labels, unit)
    found = unit_of_answers(labels, scores)
    assert (found.mean, found.deviation) == (pytest.approx(69.0), pytest.approx(11.0))
    # What is to be expected of the labels varies less than they do; it stays as it is.
    good = labels + rng.normal(0, 3, 400)
    good = labels.mean() + (good - good.mean()) * np.cov(good, labels)[0, 1] / good.var(ddof=1)
    found = unit_of_answers(good, scores)
    assert (found.mean, found.deviation) == (pytest.approx(69.0), pytest.approx(11.0))
    # The same teacher from 0 to 1 says the same.
    other = unit_of_answers(good / 100 - 0.2, scores)
    assert scored(good / 100 - 0.2, other) == pytest.approx(scored(good, found))


@pytest.mark.parametrize(
    "answers",
    [np.full(5, 3.0), -np.arange(5.0), np.full(5, 0.1), np.array([5.0, 1.0, 3.0, 1.0, 5.1])],
)
def test_answers_that_do_not_rise_with_the_labels_have_their_own_unit(answers):
    found = unit_of_answers(answers, np.arange(5.0) - 2)
    assert found == label_unit(answers)


def test_a_unit_is_kept_to_the_bit(tmp_path):
    save_unit(None, tmp_path / "unit")
    assert load_unit(tmp_path / "unit") is None
    unit = label_unit(np.random.default_rng(0).normal(3, 7, 11))
    save_unit(unit, tmp_path / "unit")
    assert load_unit(tmp_path / "unit") == unit


def test_rows_get_standard_scores_and_keep_their_own(rows):
    data = rows(20, regression=True)
    before = data.labels.copy()
    unit = label_unit(data.labels)
    scored = rows_in_standard_scores(data, unit)
    assert scored.labels == pytest.approx((before - unit.mean) / unit.deviation)
    assert np.array_equal(data.labels, before)
    assert np.array_equal(scored.first(3), data.first(3))
    assert rows_in_standard_scores(data, None) is data


@pytest.mark.parametrize("unit", [LabelUnit(2.7, 1.5), LabelUnit(-3e6, 2e5), LabelUnit(0.0, 1e-6)])
def test_a_model_in_standard_scores_answers_the_same(sized, inputs, unit):
    model = regression(sized).double()
    answered = in_standard_scores(model, unit).double()(*inputs()).logits
    expected = (model(*inputs()).logits - unit.mean) / unit.deviation
    # The new classifier is float32's.
    size = max(1.0, abs(unit.mean / unit.deviation))
    torch.testing.assert_close(answered, expected, rtol=1e-6, atol=1e-6 * size)
    own = regression(sized)
    back = in_standard_scores(in_labels(own, unit), unit)
    torch.testing.assert_close(
        back(*inputs()).logits, own(*inputs()).logits, rtol=1e-5, atol=1e-6 * size
    )


@pytest.mark.parametrize("share", [1e-3, 0.01, 1.0])
def test_weights_of_numbers_that_hardly_vary_are_a_worse_choice(
    sized, rows, framing, placement, share
):
    data = rows(40, regression=True)
    scoring = Scoring(("pearson", "r2"), "pearson", True, 8, 16)
    model = regression(sized).eval()
    answers = predict_logits(model, data, 8, 16, framing, placement)[:, 0]
    # Labels that correlate with the answers and vary by so much more.
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.3 * answers.std(), len(answers))
    data.labels = ((answers + noise) / share).astype(np.float32)
    found = scorer(data, scoring, framing, placement)(model)
    assert found["score"] > 0.9
    varied = answers.std() / data.labels.std()
    assert varied == pytest.approx(share, rel=0.2)
    assert found["choice"] == pytest.approx(found["score"] * min(1, varied / 0.05), rel=1e-4)
    classes = Scoring(("accuracy",), "accuracy", False, 8, 16)
    assert "choice" not in scorer(rows(8), classes, framing, placement)(
        sized((2, 2), (8, 8)).eval()
    )


def test_only_the_classifier_is_another(sized):
    model = regression(sized).train()
    before = copied(model, "cpu")
    unit = LabelUnit(2.0, 4.0)
    standard = in_standard_scores(model, unit)
    assert standard.training and standard.config.problem_type == "regression"
    pairs = zip(model.named_parameters(), standard.parameters(), strict=True)
    for (name, own), other in pairs:
        assert (own.data_ptr() == other.data_ptr()) is not name.startswith("classifier"), name
    for own, other in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.equal(own, other)
    # By a power of two nothing is rounded.
    assert torch.equal(in_labels(standard, unit).classifier.weight, model.classifier.weight)


def test_classes_have_no_unit(sized):
    assert label_unit(np.array([0, 1, 1])) is None
    model = sized((2, 2), (8, 8))
    assert in_standard_scores(model, None) is model
    assert in_labels(model, None) is model


def test_numbers_keep_their_digits_in_bf16(sized, inputs):
    """A deviation of 1 around 1,000, where bfloat16 counts in steps of 4."""
    model = in_labels(regression(sized), LabelUnit(1000.0, 1.0)).eval()
    with torch.no_grad():
        exact = model(*inputs()).logits
        with torch.autocast("cpu", torch.bfloat16):
            found = model(*inputs()).logits
    assert found.dtype is torch.float32
    assert (found - exact).abs().max() < 0.1
    assert len(set(found.flatten().tolist())) == len(found)
