"""Reading the artifacts of other stages, and writing those that hold a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from rosita_core.compression.record import to_json
from rosita_core.data.encoding import Encoded, SpecialTokens, special_tokens
from rosita_core.model.checkpoint import load, save, shape_of
from rosita_core.model.modeling_rosita import RositaForSequenceClassification
from rosita_core.model.shape import count_parameters
from rosita_core.training.loop import Trained
from rosita_core.training.numerics import Numerics
from tasks.cache.records import StageResult
from tasks.cache.stage_key import PROCESSES
from tasks.execution.attempt import Work
from tasks.execution.stage_inputs import StageInputs

PRUNES = "prunes.json"


def set_up(work: StageInputs) -> Numerics:
    """Put torch into the state that the stage asks for; returns device and precision."""
    # Its own bars would run through ours.
    transformers_logging.disable_progress_bar()
    context = work.context
    processes = int(work.stage.numerics.get(PROCESSES, 1))
    torch.set_num_threads(max(1, context.threads // processes))
    torch.use_deterministic_algorithms(bool(work.stage.numerics["deterministic"]))
    return Numerics(context.device, context.precision)


def tokenizer(work: StageInputs) -> PreTrainedTokenizerBase:
    """The tokenizer that the data was cut with."""
    return AutoTokenizer.from_pretrained(work.input("data") / "tokenizer")


def special(work: StageInputs) -> SpecialTokens:
    """Its special tokens."""
    return special_tokens(tokenizer(work))


def rows(work: StageInputs, role: str, split: str) -> Encoded:
    """Encoded rows of a split of the artifact in `role`."""
    return Encoded(work.input(role) / "encoded" / f"{split}.arrow")


def model(work: StageInputs, role: str) -> RositaForSequenceClassification:
    """The model of the artifact in `role`, in eval mode."""
    return load(work.input(role))


def finish_training(work: Work, trained: Trained) -> StageResult:
    """Store the trained model as the stage's artifact and return the stage's result."""
    shape = shape_of(trained.model.config)
    facts = {
        "steps": float(trained.steps),
        "best_step": float(trained.best_step),
        "selection_score": trained.best_score,
    }
    with work.output() as folder:
        save(trained.model, folder)
        write_facts(folder / "training.json", facts)
        if trained.prunes:
            write_facts(folder / PRUNES, to_json(trained.prunes))
    params = float(count_parameters(shape).total)
    return work.result({**facts, "params": params, "shape": str(shape)})


def write_facts(path: Path, facts: dict[str, float] | list[dict[str, Any]]) -> None:
    """Numbers as JSON with sorted keys."""
    path.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
