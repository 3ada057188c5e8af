"""Stage `data`."""

from prefect import task
from transformers import AutoTokenizer

from rosita_core.stages.data import prepare_data as kernel
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import Context, StageResult, attempt
from tasks.execution.set_up import set_up


@task(name="data", task_run_name="data")
def prepare_data(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Read, split, check and tokenize the data."""
    with attempt(stage, context) as work:
        set_up(work)
        tokenizer = AutoTokenizer.from_pretrained(stage.config.tokenizer, trust_remote_code=False)
        with work.output() as folder:
            facts = kernel(stage.config, tokenizer, folder, work.report)
        if work.tracking is not None and work.run is not None:
            source = stage.config.source
            fingerprint = str(facts["fingerprint"])
            work.tracking.log_dataset(work.run, source.task, fingerprint, source.source, {**facts})
        return work.result(facts)
