"""Do two models differ? Spread over seeds, exact and resampling tests, several comparisons.

Scores come from N rows and S seeds (trainings of one configuration). A difference that shall hold
for new rows and new trainings has both sources of chance in its interval; see `paired_bootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rosita_core.measuring.metrics import compute_metrics
from rosita_core.measuring.significance.resampled import grouped_rows, resampled_scores

_ELEMENTS = 4_000_000
"""Of the largest array of a chunk of resamples, so that memory does not grow with the rows."""


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
        low, high: percentile interval of the resampled differences.
        p: two-sided; twice the smaller share of resampled differences on one side of zero.
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

    Each resample draws N rows with replacement, the same for every model, and S seeds with
    replacement; the score of a configuration is the mean over the drawn seeds. So the interval has
    the chance of the rows and of the trainings in it (the two-way bootstrap of Owen 2007). The
    rows' part is rather too wide than too narrow, the seeds' part too narrow by (S - 1) / S, and
    of few seeds it knows no other values than theirs: where trainings vary much more than rows do,
    S seeds whose differences share a sign by chance, one time in 2^(S - 1), look told apart. With
    one seed there is no more than the rows in it.

    metric: as in `compute_metrics`. labels: (N,). a, b: (S, N) predictions, S may differ.
    same_seeds: seed s of a belongs to seed s of b (they share a teacher, say), and they are drawn
    together. resamples: at least 100. confidence: of the interval, in (0, 1).

    Raises:
        ValueError: for other shapes, and what `compute_metrics` refuses.
    """
    true, first, second = np.asarray(labels), np.atleast_2d(a), np.atleast_2d(b)
    _check(true, first, second, same_seeds, resamples, confidence)
    value = _mean_score(metric, true, first) - _mean_score(metric, true, second)
    rng = np.random.default_rng(seed)
    rows = grouped_rows(true, np.concatenate([first, second]))
    drawn_a = _seed_weights(rng, len(first), resamples)
    drawn_b = drawn_a if same_seeds else _seed_weights(rng, len(second), resamples)
    differences = np.empty(resamples)
    at_once = max(1, _ELEMENTS // rows.elements(metric))
    for begin in range(0, resamples, at_once):
        end = min(begin + at_once, resamples)
        scores = resampled_scores(metric, rows, rows.draw(rng, end - begin))
        scores_a, scores_b = scores[:, : len(first)], scores[:, len(first) :]
        differences[begin:end] = (drawn_a[begin:end] * scores_a).sum(1)
        differences[begin:end] -= (drawn_b[begin:end] * scores_b).sum(1)
    # Sums in another order must not turn a tie into a difference.
    differences[np.abs(differences) < 1e-12] = 0.0
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    side = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return Difference(value, float(low), float(high), min(1.0, 2 * (side + 1) / (resamples + 1)))


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


def _mean_score(metric: str, true: NDArray[np.generic], predicted: NDArray[np.generic]) -> float:
    return float(np.mean([compute_metrics([metric], row, true)[metric] for row in predicted]))


def _seed_weights(rng: np.random.Generator, seeds: int, resamples: int) -> NDArray[np.float64]:
    """(resamples, S), each row summing to 1."""
    return rng.multinomial(seeds, [1 / seeds] * seeds, size=resamples) / seeds
