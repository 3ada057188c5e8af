"""Learning curves in few points: for the records of grids, and for runs that are compared.

The attempt of a stage has its whole curve in MLflow. The run of a recipe has a copy in few points,
whether its stages were computed or came from the cache, so that a person who selects some runs of
recipes sees their curves beside their params.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from tasks.cache.metric_history import observations
from tasks.cache.records import StageResult
from tasks.stages.catalogue import trainings
from tasks.tracking.runs import Tracking

POINTS = 300
COMPARED = {
    "train/loss": "loss",
    "train/lr": "lr",
    "dev/score": "selection",
    "shape/params": "params",
}
"""Metrics of a stage's run -> what each is called after `stage/<stage>/` in that of a recipe.

MLflow shows the charts of metrics with the same words before the last slash together, in the order
of these words: the last training, which has `dev/score` and so on, before the stages.
"""


def series(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Metric -> (step, value), at most `POINTS` of each, from observations."""
    values: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name, value in line["metrics"].items():
            values.setdefault(name, []).append((int(line["step"]), float(value)))
    return {name: _thinned(points) for name, points in values.items()}


def last_training(stages: Sequence[str]) -> str | None:
    """Of the stages of a recipe in their order, the training that makes the compressed model.

    None where it is cut, and nothing is trained afterwards.
    """
    last = [name for name in stages if name in trainings()][-1]
    return None if "cut" in stages[stages.index(last) :] else last


def record_learning_curve(
    tracking: Tracking, run: str, home: Path, result: StageResult, last: bool
) -> None:
    """Log the learning curve of a training with the run of its recipe, as `stage/<stage>/loss`.

    That of the last training is there under the names of the stage's own run, too: the stage has
    one name or another by the KD setting, and recipes are compared by the training that made their
    models.

    Args:
        tracking: of the run.
        run: handle.
        home: where the stage was computed, by whichever run.
        result: of the stage.
        last: whether the training made the compressed model.
    """
    steps: dict[int, dict[str, float]] = {}
    seen = observations(home, result.stage, result.attempt, result.key)
    for name, points in series(seen).items():
        if name not in COMPARED:
            continue
        names = [f"stage/{result.stage}/{COMPARED[name]}", *([name] if last else [])]
        for step, value in points:
            steps.setdefault(step, {}).update(dict.fromkeys(names, value))
    # When each was is not recorded, and pages have the time of training as an axis.
    end = 1000 * datetime.fromisoformat(result.finished_at).timestamp()
    for step in sorted(steps):
        left = 1 - step / max(*steps, 1)
        tracking.log_metrics(run, step, steps[step], round(end - 1000 * result.seconds * left))


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most `POINTS` of the points at even distances, the first and the last among them."""
    if len(points) <= POINTS:
        return points
    chosen = np.linspace(0, len(points) - 1, POINTS).round().astype(int)
    return [points[index] for index in np.unique(chosen)]
