"""Stage `student`."""

from prefect import task

from rosita_core.model.pretrained import load
from rosita_core.stages.student import distill
from tasks.attempt import Context, StageResult, attempt
from tasks.inputs import finish_training, model, rows, set_up, special
from tasks.stage_key import Stage


@task(name="student", task_run_name="student")
def distill_student(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Teach BERT(student), the full-size model, on augmented rows."""
    with attempt(stage, context) as work, work.resumable() as checkpoints:
        numerics = set_up(work)
        teacher = model(work, "teacher")
        start = teacher if stage.config.start == "teacher" else load(stage.config.pretrained)
        trained = distill(
            teacher,
            start,
            rows(work, "rows", "train"),
            rows(work, "data", "select"),
            special(work),
            stage.config,
            numerics,
            work.report,
            checkpoints,
        )
        return finish_training(work, trained)
