"""Whether probabilities are what they say."""

from __future__ import annotations

import numpy as np

BINS = 15


def calibration_error(probability_N: np.ndarray, happened_N: np.ndarray) -> float:
    """The distance of both means in each of 15 bins of equal width, weighted by its rows.

    This is the expected calibration error of Guo and others, "On Calibration of Modern Neural
    Networks" (ICML 2017).

    Args:
        probability_N: in [0, 1].
        happened_N: 0 or 1, or the share of people who said it.
    """
    bins_N = np.minimum((probability_N * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins_N, weights=probability_N - happened_N, minlength=BINS)
    return float(np.abs(gaps).sum() / len(bins_N))
