"""How near predictions are to what people said: distributions, not a majority's label.

Letters: N rows.
"""

from __future__ import annotations

import numpy as np

from rosita_core.measuring.calibration import calibration_error

AGREED = 0.8
"""Where so large a share of people says the same they agree."""
_LEAST = 1e-7


def people_metrics(positive_N: np.ndarray, people_N: np.ndarray) -> dict[str, float]:
    """Distances of a probability of two classes to the share of people, means over rows.

    `people_js` is the Jensen-Shannon divergence in bits, `people_kl` the divergence of the model
    from the people in nats, `people_tv` the total variation, `people_ece` the calibration error
    (15 bins of equal width), `people_agreed_accuracy` the accuracy on rows of which 80 % of people
    say the same.

    Args:
        positive_N: the model's probability of the second class.
        people_N: the share of people that said it.

    Raises:
        ValueError: for other shapes, no rows, or values outside [0, 1].
    """
    from scipy.special import rel_entr

    for name, values in (("positive", positive_N), ("people", people_N)):
        if values.shape != positive_N.shape or values.ndim != 1 or not len(values):
            raise ValueError(f"{name} must be (N,) with N of at least 1, got {values.shape}")
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{name} must be in [0, 1], got others")
    model_2N = np.stack([1 - positive_N, positive_N]).astype(np.float64)
    said_2N = np.stack([1 - people_N, people_N]).astype(np.float64)
    middle_2N = ((model_2N + said_2N) / 2).clip(np.finfo(np.float64).tiny)
    js_N = (rel_entr(said_2N, middle_2N) + rel_entr(model_2N, middle_2N)).sum(0) / 2
    kl_N = rel_entr(said_2N, model_2N.clip(_LEAST, 1)).sum(0)
    agreed_N = np.maximum(people_N, 1 - people_N) >= AGREED
    right_N = (positive_N > 0.5) == (people_N > 0.5)
    found = {
        "people_js": float(js_N.mean() / np.log(2)),
        "people_kl": float(kl_N.mean()),
        "people_tv": float(np.abs(model_2N - said_2N)[1].mean()),
        "people_ece": calibration_error(positive_N, people_N),
    }
    if agreed_N.any():
        found["people_agreed_accuracy"] = float(right_N[agreed_N].mean())
    return found
