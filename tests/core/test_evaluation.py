"""Distances to what people said, scores elsewhere, and baselines on the same rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosita_core.measuring.baselines import baseline_scores
from rosita_core.measuring.calibration import calibration_error
from rosita_core.measuring.domains import domain_metrics
from rosita_core.measuring.metrics import OF_LESS
from rosita_core.measuring.people import people_metrics


def test_the_calibration_error_is_over_fifteen_bins_of_equal_width():
    """A row on each side of 1/15 and of 9/15, and two rows between 9/15 and 10/15."""
    probability = np.array([0.066, 0.067, 0.599, 0.601, 0.61, 0.66])
    happened = np.array([1, 0, 1, 0, 1, 0])
    gaps = (0.934, 0.067, 0.401, 0.601 - 0.39 + 0.66)
    assert calibration_error(probability, happened) == pytest.approx(sum(gaps) / 6)


SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(shares=SHARES)
def test_who_says_what_people_say_is_at_no_distance(shares):
    people = np.array(shares)
    found = people_metrics(people, people)
    for name in ("people_js", "people_kl", "people_tv", "people_ece"):
        assert found[name] == pytest.approx(0, abs=1e-5)


@given(shares=SHARES, data=st.data())
def test_distances_are_bounded_and_blind_to_which_class_is_which(shares, data):
    said = st.lists(st.floats(0, 1), min_size=len(shares), max_size=len(shares))
    model, people = np.array(data.draw(said)), np.array(shares)
    found = people_metrics(model, people)
    turned = people_metrics(1 - model, 1 - people)
    for name in ("people_js", "people_kl", "people_tv"):
        assert found[name] >= -1e-6
        assert found[name] == pytest.approx(turned[name], abs=1e-6)
    assert found["people_js"] <= 1 + 1e-9
    # Pinsker: the divergence bounds the variation.
    assert found["people_tv"] <= np.sqrt(max(found["people_kl"], 0) / 2) + 1e-3
    assert found["people_ece"] <= found["people_tv"] + 1e-9


def test_opposites_are_as_far_apart_as_can_be():
    found = people_metrics(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    assert found["people_js"] == pytest.approx(1)
    assert found["people_tv"] == pytest.approx(1)
    assert found["people_ece"] == pytest.approx(1)
    assert found["people_agreed_accuracy"] == 0


def test_accuracy_counts_rows_alone_on_which_people_agree():
    model, people = np.array([0.9, 0.2, 0.1]), np.array([0.9, 0.6, 0.85])
    assert people_metrics(model, people)["people_agreed_accuracy"] == 0.5
    assert "people_agreed_accuracy" not in people_metrics(model[1:2], people[1:2])


@pytest.mark.parametrize(
    ("model", "people", "message"),
    [
        ([0.5], [0.5, 0.5], r"people must be \(N,\)"),
        ([1.5], [0.5], r"positive must be in \[0, 1\]"),
    ],
)
def test_what_is_no_share_is_refused(model, people, message):
    with pytest.raises(ValueError, match=message):
        people_metrics(np.array(model), np.array(people))


def test_other_domains_are_summed_up():
    found = domain_metrics(0.9, {"amazon": 0.8, "nyt": 0.6})
    assert found == {
        "domains_mean": pytest.approx(0.7),
        "domains_worst": 0.6,
        "domains_drop": pytest.approx(0.2),
    }
    assert domain_metrics(0.9, {}) == {}


def frame(texts, labels, **more):
    return pd.DataFrame({"text_a": texts, **more, "label": np.array(labels)})


def test_baselines_are_scored_on_the_dev_rows():
    train = frame(["good film", "good plot", "bad film", "bad one", "good"], [1, 1, 0, 0, 1])
    dev = frame(["bad plot", "good", "a bad one", "good, good"], [0, 1, 0, 1])
    found = baseline_scores(train, dev, ("majority", "linear"), "accuracy")
    assert found == {"majority_score": 0.5, "linear_score": 1.0}
    assert baseline_scores(train, dev, (), "accuracy") == {}
    with pytest.raises(ValueError, match="baselines must be of majority, linear, got 'magic'"):
        baseline_scores(train, dev, ("magic",), "accuracy")


def test_the_linear_model_reads_both_texts_of_a_pair():
    train = frame(["x"] * 4, [0, 1, 0, 1], text_b=["no", "yes", "no never", "yes yes"])
    dev = frame(["x", "x"], [1, 0], text_b=["yes", "no"])
    assert baseline_scores(train, dev, ("linear",), "accuracy") == {"linear_score": 1.0}


def test_what_is_measured_beside_a_score_is_sorted_by_what_is_better():
    everything = people_metrics(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    everything |= domain_metrics(0.9, {"films": 0.8})
    of_more = {"people_agreed_accuracy", "domains_mean", "domains_worst"}
    assert everything.keys() == OF_LESS | of_more
