"""Stage `one-step`."""

from prefect import task

from rosita_core.stages.one_step import prune_one_step as kernel
from tasks.attempt import Context, StageResult, attempt
from tasks.inputs import finish_training, model, rows, set_up, special
from tasks.stage_key import Stage


@task(name="one-step", task_run_name="one-step")
def prune_one_step(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Rank once, cut once, then distill or fine-tune."""
    with attempt(stage, context) as work, work.resumable() as checkpoints:
        numerics = set_up(work)
        trained = kernel(
            model(work, "source"),
            model(work, "teacher"),
            model(work, "ranking_teacher"),
            rows(work, "data", "train"),
            rows(work, "rows", "train"),
            rows(work, "data", "select"),
            special(work),
            stage.config,
            numerics,
            work.report,
            checkpoints,
        )
        return finish_training(work, trained)
