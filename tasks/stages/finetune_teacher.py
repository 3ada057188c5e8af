"""Stage `teacher`."""

from prefect import task

from rosita_core.model.pretrained import load
from rosita_core.stages.teacher import finetune
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained
from rosita_core.training.numerics import Numerics
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import Context, StageResult, attempt
from tasks.execution.inputs import finish_training, rows, special
from tasks.execution.parallel import in_processes
from tasks.execution.stage_inputs import StageInputs


@task(name="teacher", task_run_name="teacher")
def finetune_teacher(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Fine-tune the pretrained model on the task's labels."""
    with attempt(stage, context) as work, work.resumable() as checkpoints:
        return finish_training(work, in_processes(_train, work, checkpoints))


def _train(work: StageInputs, numerics: Numerics, checkpoints: Checkpoints) -> Trained:
    return finetune(
        load(work.stage.config.pretrained),
        rows(work, "data", "train"),
        rows(work, "data", "select"),
        special(work),
        work.stage.config,
        numerics,
        work.report,
        checkpoints,
    )
