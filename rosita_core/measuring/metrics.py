"""The metrics of GLUE and of own data, from predictions and labels."""

from collections.abc import Callable, Mapping, Sequence
from operator import truediv

import numpy as np
from numpy.typing import ArrayLike, NDArray

OF_LESS = frozenset({"people_js", "people_kl", "people_tv", "people_ece", "domains_drop"})
"""Measured beside the metrics: the less the better, so that there is nothing to keep of them."""

NO_SHARE = OF_LESS | {"r2"}
"""Of these a student keeps no share: they can be below 0, or less is more."""
LEAST_VARIATION = 0.05
"""Below it the numbers of a regression are almost one number; see `variation`."""

Values = NDArray[np.int64] | NDArray[np.float64]


def compute_metrics(
    names: Sequence[str], predictions: ArrayLike, labels: ArrayLike
) -> dict[str, float]:
    """Compute the named metrics of N predictions.

    names: of mcc, accuracy, f1 (of class 1), macro_f1 (the mean over classes), pearson, spearman,
    pearson_spearman (the mean of the two), r2 (1 - squared error / that of the labels' mean, at
    most 1). predictions, labels: N class indices for the first four, N numbers for the others.

    A correlation with a constant is not defined; mcc, pearson and spearman are then 0.0, so that
    a model that learned nothing scores as one, and so is r2 of constant labels. f1 is 0.0 if class
    1 is neither predicted nor true; macro_f1 leaves such classes out.
    Raises ValueError for an unknown name, other shapes, no rows, values that are not finite, or
    numbers where classes are needed.
    """
    predicted, true = np.asarray(predictions), np.asarray(labels)
    if predicted.ndim != 1 or predicted.shape != true.shape or not len(true):
        raise ValueError(
            "predictions and labels must have one shape (N,) with N of at least 1, "
            f"got {predicted.shape} and {true.shape}"
        )
    for field, values in (("predictions", predicted), ("labels", true)):
        if not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"{field} must be finite, got {values[bad]} in row {bad + 1}")
    result = {}
    for name in names:
        if name not in _METRICS:
            raise ValueError(f"metric must be one of {', '.join(_METRICS)}, got {name!r}")
        result[name] = _METRICS[name](predicted, true)
    return result


def with_suffix(metrics: Mapping[str, float], suffix: str) -> dict[str, float]:
    """The metrics of a further dev split under names of their own: accuracy_mismatched."""
    return {f"{name}_{suffix}": value for name, value in metrics.items()}


def variation(predictions_N: Values, labels_N: Values) -> float | None:
    """The deviation of numbers as a share of the labels', of which a correlation says nothing.

    Of numbers that err least it is their correlation. None where the labels do not vary.
    """
    if _constant(labels_N):
        return None
    deviations = (float(np.std(values, dtype=np.float64)) for values in (predictions_N, labels_N))
    return truediv(*deviations)


def choice_of_numbers(score: float, predictions_N: Values, labels_N: Values) -> float:
    """What chooses among the weights of a regression: the score, the less the less numbers vary.

    Weights that have learned the order of the labels and not yet how far apart they are can have
    the highest correlation of all. From `LEAST_VARIATION` on it is the score.
    """
    found = variation(predictions_N, labels_N)
    if found is None or score <= 0:
        return score
    return score * min(1.0, found / LEAST_VARIATION)


def _require_classes(predicted: Values, true: Values) -> None:
    for field, values in (("predictions", predicted), ("labels", true)):
        if values.dtype.kind not in "iu":
            raise ValueError(f"{field} must be class indices (integers), got {values.dtype}")


def _mcc(predicted: Values, true: Values) -> float:
    from sklearn.metrics import matthews_corrcoef

    _require_classes(predicted, true)
    if _constant(predicted) or _constant(true):
        return 0.0
    return float(matthews_corrcoef(true, predicted))


def _accuracy(predicted: Values, true: Values) -> float:
    _require_classes(predicted, true)
    return float(np.mean(predicted == true))


def _f1(predicted: Values, true: Values) -> float:
    from sklearn.metrics import f1_score

    _require_classes(predicted, true)
    classes = sorted({*predicted.tolist(), *true.tolist()} - {0, 1})
    if classes:
        raise ValueError(f"f1 needs the classes 0 and 1, got class {classes[0]}")
    return float(f1_score(true, predicted, zero_division=0.0))


def _macro_f1(predicted: Values, true: Values) -> float:
    from sklearn.metrics import f1_score

    _require_classes(predicted, true)
    return float(f1_score(true, predicted, average="macro", zero_division=0.0))


def _pearson(predicted: Values, true: Values) -> float:
    from scipy.stats import pearsonr

    if _constant(predicted) or _constant(true):
        return 0.0
    # In double precision, as single-precision inputs would lose digits in the sums.
    return float(pearsonr(predicted.astype(np.float64), true.astype(np.float64)).statistic)


def _spearman(predicted: Values, true: Values) -> float:
    from scipy.stats import spearmanr

    if _constant(predicted) or _constant(true):
        return 0.0
    return float(spearmanr(predicted, true).statistic)


def _pearson_spearman(predicted: Values, true: Values) -> float:
    return (_pearson(predicted, true) + _spearman(predicted, true)) / 2


def _r2(predicted: Values, true: Values) -> float:
    from sklearn.metrics import r2_score

    if _constant(true):
        return 0.0
    return float(r2_score(true.astype(np.float64), predicted.astype(np.float64)))


def _constant(values: Values) -> bool:
    # Up to rounding: below this a correlation would be that of the rounding errors.
    numbers = values.astype(np.float64)
    return bool(np.ptp(numbers) <= 1e-11 * abs(numbers.mean()))


_METRICS: dict[str, Callable[[Values, Values], float]] = {
    "mcc": _mcc,
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "pearson": _pearson,
    "spearman": _spearman,
    "pearson_spearman": _pearson_spearman,
    "r2": _r2,
}
