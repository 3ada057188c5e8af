"""Writing artifacts that hold a trained model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rosita_core.model.checkpoint import save, shape_of
from rosita_core.model.shape import count_parameters
from rosita_core.training.answers import in_labels
from rosita_core.training.label_unit import LabelUnit
from tasks.execution.parallel import Training, in_processes
from tasks.execution.row_inputs import training_unit
from tasks.execution.work import Computed, Work


def trained(
    train: Training, work: Work, unit: Callable[[Work], LabelUnit | None] = training_unit
) -> Computed:
    """Train in as many processes as the stage asks for, and store the model with its documents.

    A regression's, trained in standard scores, is stored as one that answers in `unit`.
    """
    with work.resumable() as checkpoints:
        done = in_processes(train, work, checkpoints)
        shape = shape_of(done.model.config)
        facts = {
            "steps": float(done.steps),
            "best_step": float(done.best_step),
            "selection_score": done.best_score,
        }
        with work.output() as folder:
            save(in_labels(done.model, unit(work)), folder)
            write_document(folder / "training.json", facts)
            for name, document in done.documents.items():
                write_document(folder / f"{name}.json", document)
    params = float(count_parameters(shape).total)
    return work.computed({**facts, "params": params, "shape": str(shape)})


def write_document(path: Path, document: Any) -> None:
    """JSON-able values with sorted keys."""
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
