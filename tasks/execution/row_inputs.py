"""Reading rows that an earlier stage encoded, and the tokenizer that they were cut with."""

from __future__ import annotations

from typing import Any

from rosita_core.data.encoding import Encoded
from rosita_core.data.framing import Framing, framing_of, load_tokenizer
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.placement import Placement
from rosita_core.training.run import TrainingRun
from tasks.execution.stage_inputs import StageInputs

TRAIN, SELECT = "train", "select"


def tokenizer(work: StageInputs) -> Any:
    """The tokenizer that the data was cut with."""
    return load_tokenizer(work.input("data") / "tokenizer")


def framing(work: StageInputs) -> Framing:
    """How that tokenizer frames texts."""
    return framing_of(tokenizer(work))


def rows(work: StageInputs, role: str, split: str) -> Encoded:
    """Encoded rows of a split of the artifact in `role`."""
    return Encoded(work.input(role) / "encoded" / f"{split}.arrow")


def training_run(
    work: StageInputs, role: str, placement: Placement, checkpoints: Checkpoints
) -> TrainingRun:
    """A training on the training rows of the artifact in `role`; other rows choose its weights."""
    return TrainingRun(
        rows=rows(work, role, TRAIN),
        selection=rows(work, "data", SELECT),
        framing=framing(work),
        placement=placement,
        report=work.report,
        checkpoints=checkpoints,
    )
