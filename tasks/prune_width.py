"""Stage `width`."""

from prefect import task

from rosita_core.stages.width import prune_width as kernel
from tasks.attempt import Context, StageResult, attempt
from tasks.inputs import finish_training, model, rows, set_up, special
from tasks.stage_key import Stage


@task(name="width", task_run_name="width")
def prune_width(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Prune heads, FFN units and embedding rank step by step while distilling."""
    with attempt(stage, context) as work, work.resumable() as checkpoints:
        numerics = set_up(work)
        trained = kernel(
            model(work, "teacher"),
            rows(work, "rows", "train"),
            rows(work, "data", "select"),
            special(work),
            stage.config,
            numerics,
            work.report,
            checkpoints,
        )
        return finish_training(work, trained)
