"""Stage `depth`."""

from prefect import task

from rosita_core.stages.depth import prune_depth as kernel
from tasks.attempt import Context, StageResult, attempt
from tasks.inputs import finish_training, model, rows, set_up, special
from tasks.stage_key import Stage


@task(name="depth", task_run_name="depth")
def prune_depth(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Remove layers one at a time while distilling."""
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
