"""Reading rows that an earlier stage encoded, and the tokenizer that they were cut with."""

from __future__ import annotations

from typing import Any

from rosita_core.data.encoding import Encoded
from rosita_core.data.framing import Framing, framing_of, load_tokenizer
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.label_unit import (
    LABEL_UNIT,
    LabelUnit,
    load_unit,
    rows_in_standard_scores,
)
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


def training_unit(work: StageInputs) -> LabelUnit | None:
    """The unit of a regression's labels, in which stages train; None for classes."""
    return load_unit(work.input("data") / LABEL_UNIT)


def training_rows(work: StageInputs, role: str, split: str) -> Encoded:
    """`rows`; labels of a regression are standard scores by `training_unit`."""
    return rows_in_standard_scores(rows(work, role, split), training_unit(work))


def training_run(
    work: StageInputs, role: str, placement: Placement, checkpoints: Checkpoints
) -> TrainingRun:
    """A training on the training rows of the artifact in `role`; other rows choose its weights."""
    return TrainingRun(
        rows=training_rows(work, role, TRAIN),
        selection=training_rows(work, "data", SELECT),
        framing=framing(work),
        placement=placement,
        report=work.report,
        checkpoints=checkpoints,
    )
