"""Writing artifacts that hold a trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rosita_core.model.checkpoint import save, shape_of
from rosita_core.model.shape import count_parameters
from rosita_core.training.loop import Trained
from tasks.cache.records import StageResult
from tasks.execution.attempt import Work


def finish_training(work: Work, trained: Trained) -> StageResult:
    """Store the trained model, with its documents beside it, and return the stage's result."""
    shape = shape_of(trained.model.config)
    facts = {
        "steps": float(trained.steps),
        "best_step": float(trained.best_step),
        "selection_score": trained.best_score,
    }
    with work.output() as folder:
        save(trained.model, folder)
        write_document(folder / "training.json", facts)
        for name, document in trained.documents.items():
            write_document(folder / f"{name}.json", document)
    params = float(count_parameters(shape).total)
    return work.result({**facts, "params": params, "shape": str(shape)})


def write_document(path: Path, document: Any) -> None:
    """JSON-able values with sorted keys."""
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
