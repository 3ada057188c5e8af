"""Stage `data`."""

from prefect import task
from transformers import AutoTokenizer

from rosita_core.stages.data import prepare_data as kernel
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import Attempt, Context, StageResult, carry_out
from tasks.execution.set_up import set_up
from tasks.execution.work import Computed, Work


@task(name="data", task_run_name="data")
def prepare_data(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Read, split, check and tokenize the data."""
    return carry_out(compute, stage, context, _log_dataset)


def compute(work: Work) -> Computed:
    """The rows as they are trained on."""
    set_up(work)
    settings = work.stage.config
    tokenizer = AutoTokenizer.from_pretrained(settings.tokenizer)
    with work.output() as folder:
        facts = kernel(settings, tokenizer, folder, work.report)
    return work.computed(facts)


def _log_dataset(ours: Attempt, computed: Computed) -> None:
    if ours.tracking is not None and ours.run is not None:
        source, facts = ours.stage.config.source, computed.metrics
        fingerprint = str(facts["fingerprint"])
        ours.tracking.log_dataset(ours.run, source.task, fingerprint, source.source, facts)
