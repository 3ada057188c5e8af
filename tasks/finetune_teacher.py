"""Stage `teacher`."""

from prefect import task

from rosita_core.model.pretrained import load
from rosita_core.stages.teacher import finetune
from tasks.attempt import Context, StageResult, attempt
from tasks.inputs import finish_training, rows, set_up, special
from tasks.stage_key import Stage


@task(name="teacher", task_run_name="teacher")
def finetune_teacher(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Fine-tune the pretrained model on the task's labels."""
    with attempt(stage, context) as work, work.resumable() as checkpoints:
        numerics = set_up(work)
        trained = finetune(
            load(stage.config.pretrained),
            rows(work, "data", "train"),
            rows(work, "data", "select"),
            special(work),
            stage.config,
            numerics,
            work.report,
            checkpoints,
        )
        return finish_training(work, trained)
