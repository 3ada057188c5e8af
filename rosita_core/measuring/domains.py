"""What a score on the task's own rows is worth elsewhere."""

from __future__ import annotations

from collections.abc import Mapping


def domain_metrics(own: float, others: Mapping[str, float]) -> dict[str, float]:
    """Mean and worst score of other domains, and how far the mean is below the own.

    Args:
        own: the score on the dev rows.
        others: domain -> score; empty where there are none.
    """
    if not others:
        return {}
    mean = sum(others.values()) / len(others)
    return {
        "domains_mean": mean,
        "domains_worst": min(others.values()),
        "domains_drop": own - mean,
    }
