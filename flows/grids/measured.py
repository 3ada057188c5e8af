"""What the stages of finished cells left, as rows: predictions, learning curves and prunes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flows.engine.learning_curves import series
from flows.grids.definition import Cell
from rosita_core.measuring.assessment import STUDENT, TEACHER, read_assessment
from tasks.cache.metric_history import observations
from tasks.store.artifacts import Store

PRUNES = "prunes.json"


@dataclass(frozen=True)
class MeasuredCell:
    """A finished cell.

    Attributes:
        name: `<grid>/<cell id>`.
        cell: as the grid defines it.
        document: the cell's file.
        summary: of its run.
        assessment: the artifact of its stage `assess`.
    """

    name: str
    cell: Cell
    document: dict[str, Any]
    summary: dict[str, Any]
    assessment: Path

    @property
    def taught_by(self) -> str:
        """What its teacher is called among the predictions: by its key, and how much it read."""
        [key] = [one["key"] for one in self.document["stages"] if one["name"] == TEACHER]
        return f"{TEACHER}:{key}@{self.cell.recipe.width.max_length}"


def predictions(cell: MeasuredCell) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions of the student and of its teacher on every reported row.

    A class is its number; a model with one output predicts that number.
    """
    assessment = read_assessment(cell.assessment)
    frames = []
    for name, model in ((cell.name, STUDENT), (cell.taught_by, TEACHER)):
        parts = []
        for split, labels in assessment.labels.items():
            logits_NC = assessment.models[model].logits[split]
            numbers = logits_NC.shape[1] == 1
            kind = np.float32 if numbers else np.int32
            chosen = logits_NC[:, 0] if numbers else logits_NC.argmax(axis=1)
            columns = {
                "cell": name,
                "split": split,
                "row": np.arange(len(labels), dtype=np.int32),
                "label": labels.astype(kind),
                "prediction": chosen.astype(kind),
            }
            parts.append(pd.DataFrame(columns))
        frames.append(pd.concat(parts, ignore_index=True))
    return frames[0], frames[1]


def curve(home: Path, stage: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The learning curve of a training: a few hundred values of a metric, every event, every shape.

    Events and shapes are texts without a value.
    """
    lines = observations(home, stage["stage"], stage["attempt"], stage["key"])
    common = {"key": stage["key"], "stage": stage["stage"]}
    shape = event = None
    for line in lines:
        step = int(line["step"])
        # The same words again are progress, not another event.
        if line["message"] and line["message"] != event:
            event = line["message"]
            yield {**common, "step": step, "name": "event", "value": None, "text": event}
        if line["shape"] and line["shape"] != shape:
            shape = line["shape"]
            yield {**common, "step": step, "name": "shape", "value": None, "text": shape}
    for name, points in series(lines).items():
        for step, value in points:
            yield {**common, "step": step, "name": name, "value": value, "text": None}


def prunes(home: Path, stage: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What a stage cut, a row per prune."""
    path = Store(home).path(stage["artifact"]) / PRUNES
    if path.is_file():
        for record in json.loads(path.read_text(encoding="utf-8")):
            yield {
                "key": stage["key"],
                "stage": stage["stage"],
                "record": json.dumps(record, separators=(",", ":")),
            }
