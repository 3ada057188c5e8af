"""Do two models differ? Spread over seeds, exact tests, intervals, several comparisons.

Scores come from N rows and S seeds (trainings of one configuration). A difference that shall hold
for new rows and new trainings has both sources of chance in its interval; see `paired_bootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rosita_core.measuring.metrics import compute_metrics
from rosita_core.measuring.significance.resampled import grouped_rows, resampled_scores

_ELEMENTS = 4_000_000
"""Of the largest array of a chunk of resamples, so that memory does not grow with the rows."""
SMALLEST_P = 1e-12
"""No p is given below it."""


@dataclass(frozen=True)
class Spread:
    """A quantity over seeds.

    Attributes:
        mean: arithmetic mean.
        sd: sample standard deviation (divided by n - 1), None for a single seed.
        count: n.
    """

    mean: float
    sd: float | None
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation.

    Raises:
        ValueError: for no values, or one that is not finite.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not numbers.size or not np.isfinite(numbers).all():
        raise ValueError(f"values must be finite numbers, at least one, got {list(values)}")
    sd = float(numbers.std(ddof=1)) if numbers.size > 1 else None
    return Spread(float(numbers.mean()), sd, int(numbers.size))


@dataclass(frozen=True)
class McNemar:
    """Rows on which exactly one of two models is right.

    Attributes:
        only_a, only_b: such rows.
        p: of at least so unequal a split of them by fair coins, two-sided.
    """

    only_a: int
    only_b: int
    p: float


def mcnemar(labels: ArrayLike, a: ArrayLike, b: ArrayLike) -> McNemar:
    """The exact McNemar test of equal accuracy of two models on the same N rows.

    labels, a, b: N class indices. Source: McNemar 1947, in its exact binomial form.

    Raises:
        ValueError: for arrays of other shapes.
    """
    from scipy.stats import binomtest

    true, first, second = np.asarray(labels), np.asarray(a), np.asarray(b)
    if true.ndim != 1 or not (true.shape == first.shape == second.shape):
        raise ValueError(
            "labels and both predictions must have one shape (N,), "
            f"got {true.shape}, {first.shape} and {second.shape}"
        )
    only_a = int(((first == true) & (second != true)).sum())
    only_b = int(((first != true) & (second == true)).sum())
    split = only_a + only_b
    return McNemar(only_a, only_b, float(binomtest(only_a, split).pvalue) if split else 1.0)


@dataclass(frozen=True)
class Difference:
    """Score of a minus score of b, each the mean over its seeds.

    Attributes:
        value: as observed.
        low, high: interval.
        p: two-sided, of no difference.
    """

    value: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    metric: str,
    labels: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    *,
    same_seeds: bool,
    resamples: int,
    confidence: float,
    seed: int,
) -> Difference:
    """How far apart two configurations are, on the same rows, over rows and seeds.

    Its variance has two parts. That of the rows is the bootstrap's: each resample draws N rows with
    replacement, the same for every model, and scores all seeds on them. That of the trainings is
    the sample variance over the seeds, of their differences where they are paired, else of each
    configuration; one seed is taken to vary as those that it is compared with. Half the interval,
    squared, is the sum of t(d)^2 times a part, t being Student's with the part's own degrees of
    freedom d, of which few seeds have few (Banerjee 1960). So it covers at least as often as it
    says, also where few seeds agree by chance; where trainings hardly vary it is wider than it need
    be, twice with three seeds. Of few rows that differ the bootstrap knows too little: McNemar's
    test is the exact one. Of one seed each, there is no more than the rows in it.

    metric: as in `compute_metrics`. labels: (N,). a, b: (S, N) predictions, S may differ.
    same_seeds: seed s of a belongs to seed s of b (they share a teacher, say). resamples: at least
    100. confidence: of the interval, in (0, 1).

    Raises:
        ValueError: for other shapes, and what `compute_metrics` refuses.
    """
    true, first, second = np.asarray(labels), np.atleast_2d(a), np.atleast_2d(b)
    _check(true, first, second, same_seeds, resamples, confidence)
    scores_a, scores_b = _scores(metric, true, first), _scores(metric, true, second)
    rng = np.random.default_rng(seed)
    rows = grouped_rows(true, np.concatenate([first, second]))
    differences = np.empty(resamples)
    at_once = max(1, _ELEMENTS // rows.elements(metric))
    for begin in range(0, resamples, at_once):
        end = min(begin + at_once, resamples)
        scores = resampled_scores(metric, rows, rows.draw(rng, end - begin))
        differences[begin:end] = scores[:, : len(first)].mean(1) - scores[:, len(first) :].mean(1)
    of_seeds = [scores_a - scores_b] if same_seeds else [scores_a, scores_b]
    parts = [(float(differences.var(ddof=1)), true.size - 1), *_of_trainings(of_seeds)]
    return _by_students_t(float(scores_a.mean() - scores_b.mean()), parts, confidence)


def _of_trainings(of_seeds: Sequence[NDArray[np.float64]]) -> list[tuple[float, int]]:
    """The variance of each mean over seeds, and its degrees of freedom.

    A lone seed is taken to vary as those that it is compared with.
    """
    several = [scores for scores in of_seeds if scores.size > 1]
    lone = len(of_seeds) - len(several)
    return [(float(s.var(ddof=1)) * (1 / s.size + lone), s.size - 1) for s in several]


def _by_students_t(
    value: float, parts: Sequence[tuple[float, int]], confidence: float
) -> Difference:
    """What is known of a difference from the parts of its variance and their degrees of freedom.

    The first part is the rows'.
    """
    from scipy.optimize import brentq
    from scipy.stats import t

    def reach(log_p: float) -> float:
        tail = math.exp(log_p) / 2
        return math.sqrt(sum(float(t.isf(tail, max(1, own))) ** 2 * part for part, own in parts))

    # Sums in another order must not turn a tie into a difference.
    value = 0.0 if abs(value) < 1e-12 else value
    least = math.log(SMALLEST_P)
    if sum(part for part, _ in parts) < 1e-24:
        # All resamples say the same: where all rows differ, of which a few do by chance, as coins.
        p = max(SMALLEST_P, 2.0 ** -parts[0][1]) if value else 1.0
        half = abs(value) if p > 1 - confidence else 0.0
    elif reach(least) <= abs(value):
        p, half = SMALLEST_P, reach(math.log(1 - confidence))
    else:
        p = math.exp(brentq(lambda log_p: reach(log_p) - abs(value), least, 0.0))
        half = reach(math.log(1 - confidence))
    return Difference(value, value - half, value + half, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values of a family of comparisons, adjusted so that one false alarm in it stays rare.

    In the order given. Source: Holm 1979. Raises ValueError for a value outside [0, 1].
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"p must be in [0, 1], got {p}")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def pareto_front(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Indices of the points that no other beats: none costs less and scores at least as much.

    In ascending order of cost. Of points that are equal in both, all are on the front.
    """
    front: list[int] = []
    best = -math.inf
    points = sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i]))
    for index in points:
        equal = bool(front) and (costs[index], scores[index]) == (
            costs[front[-1]],
            scores[front[-1]],
        )
        if scores[index] > best or equal:
            front.append(index)
            best = scores[index]
    return front


def _check(
    true: NDArray[np.generic],
    first: NDArray[np.generic],
    second: NDArray[np.generic],
    same_seeds: bool,
    resamples: int,
    confidence: float,
) -> None:
    for name, values in (("a", first), ("b", second)):
        if values.ndim != 2 or values.shape[1:] != true.shape:
            raise ValueError(f"{name} must have shape (S, {true.size}), got {values.shape}")
    if same_seeds and len(first) != len(second):
        raise ValueError(
            f"a and b must have as many seeds to be paired, got {len(first)} and {len(second)}"
        )
    if resamples < 100:
        raise ValueError(f"resamples must be at least 100, got {resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")


def _scores(metric: str, true: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64]:
    """Of each seed: (S,)."""
    return np.array([compute_metrics([metric], row, true)[metric] for row in predicted])
