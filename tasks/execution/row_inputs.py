"""Reading rows that an earlier stage encoded, and the tokenizer that they were cut with."""

from __future__ import annotations

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rosita_core.data.encoding import Encoded, SpecialTokens, special_tokens
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.placement import Placement
from rosita_core.training.run import TrainingRun
from tasks.execution.stage_inputs import StageInputs

TRAIN, SELECT = "train", "select"


def tokenizer(work: StageInputs) -> PreTrainedTokenizerBase:
    """The tokenizer that the data was cut with."""
    return AutoTokenizer.from_pretrained(work.input("data") / "tokenizer", trust_remote_code=False)


def special(work: StageInputs) -> SpecialTokens:
    """Its special tokens."""
    return special_tokens(tokenizer(work))


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
        special=special(work),
        placement=placement,
        report=work.report,
        checkpoints=checkpoints,
    )
