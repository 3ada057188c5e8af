"""Stage `augment`."""

from pathlib import Path

from prefect import task
from transformers import AutoModelForMaskedLM, AutoTokenizer

from rosita_core.augmentation.masked_lm import MaskedLMProposer
from rosita_core.data.storage import load_splits
from rosita_core.stages.augment import AugmentStageSettings, load_vectors
from rosita_core.stages.augment import augment_data as kernel
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import Context, StageResult, attempt
from tasks.execution.row_inputs import tokenizer
from tasks.execution.set_up import set_up


@task(name="augment", task_run_name="augment")
def augment_data(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Make variants of the training rows."""
    with attempt(stage, context) as work, work.resumable() as checkpoints:
        placement = set_up(work)
        config: AugmentStageSettings = stage.config
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
        return work.result(facts)


def _proposer(config: AugmentStageSettings, device: str) -> MaskedLMProposer | None:
    if config.mlm is None:
        return None
    model = AutoModelForMaskedLM.from_pretrained(
        config.mlm, use_safetensors=True, trust_remote_code=False
    )
    return MaskedLMProposer(
        model.to(device).eval(),
        AutoTokenizer.from_pretrained(config.mlm, trust_remote_code=False),
        config.mlm_batch_size,
        config.variants.candidates,
    )
