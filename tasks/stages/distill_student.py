"""Stage `student`."""

from functools import partial

from prefect import task

from rosita_core.model.pretrained import load
from rosita_core.stages.student import distill
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained
from rosita_core.training.placement import Placement
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import Context, StageResult, carry_out
from tasks.execution.model_inputs import model
from tasks.execution.outputs import trained
from tasks.execution.row_inputs import training_run
from tasks.execution.stage_inputs import StageInputs


@task(name="student", task_run_name="student")
def distill_student(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Teach BERT(student), the full-size model, on augmented rows."""
    return carry_out(partial(trained, _train), stage, context)


def _train(work: StageInputs, placement: Placement, checkpoints: Checkpoints) -> Trained:
    settings = work.stage.config
    teacher = model(work, "teacher")
    start = teacher if settings.start == "teacher" else load(settings.pretrained)
    return distill(teacher, start, settings, training_run(work, "rows", placement, checkpoints))
