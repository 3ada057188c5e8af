"""Stage `augment`: make variants of the training rows."""

from pathlib import Path

from rosita_core.augmentation.masked_lm import MaskedLMProposer, load_proposer
from rosita_core.data.storage import load_splits
from rosita_core.stages.augment import AugmentStageSettings, load_vectors
from rosita_core.stages.augment import augment_data as kernel
from tasks.execution.row_inputs import tokenizer
from tasks.execution.set_up import set_up
from tasks.execution.work import Computed, Work


def compute(work: Work) -> Computed:
    """The rows and their variants."""
    with work.resumable() as checkpoints:
        placement = set_up(work)
        config: AugmentStageSettings = work.stage.config
        vectors = None
        if config.vectors is not None:
            vectors = load_vectors(Path(config.vectors), config.vocabulary)
        train = load_splits(work.input("data") / "splits").train
        with work.output() as folder:
            facts = kernel(
                train,
                config,
                _proposer(config, placement.device),
                vectors,
                tokenizer(work),
                folder,
                work.report,
                checkpoints,
            )
        return work.computed(facts)


def _proposer(config: AugmentStageSettings, device: str) -> MaskedLMProposer | None:
    if config.mlm is None:
        return None
    top = config.variants.candidates
    return load_proposer(Path(config.mlm), device, config.mlm_batch_size, top)
