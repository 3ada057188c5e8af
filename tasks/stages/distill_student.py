"""Stage `student`."""

from prefect import task

from rosita_core.model.pretrained import load
from rosita_core.stages.student import distill
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained
from rosita_core.training.numerics import Numerics
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import Context, StageResult, attempt
from tasks.execution.inputs import finish_training, model, rows, special
from tasks.execution.parallel import in_processes
from tasks.execution.stage_inputs import StageInputs


@task(name="student", task_run_name="student")
def distill_student(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Teach BERT(student), the full-size model, on augmented rows."""
    with attempt(stage, context) as work, work.resumable() as checkpoints:
        return finish_training(work, in_processes(_train, work, checkpoints))


def _train(work: StageInputs, numerics: Numerics, checkpoints: Checkpoints) -> Trained:
    teacher = model(work, "teacher")
    start = teacher if work.stage.config.start == "teacher" else load(work.stage.config.pretrained)
    return distill(
        teacher,
        start,
        rows(work, "rows", "train"),
        rows(work, "data", "select"),
        special(work),
        work.stage.config,
        numerics,
        work.report,
        checkpoints,
    )
