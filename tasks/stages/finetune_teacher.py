"""Stage `teacher`."""

from functools import partial

from prefect import task

from rosita_core.model.pretrained import load
from rosita_core.stages.teacher import finetune
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained
from rosita_core.training.placement import Placement
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import Context, StageResult, carry_out
from tasks.execution.outputs import trained
from tasks.execution.row_inputs import training_run
from tasks.execution.stage_inputs import StageInputs


@task(name="teacher", task_run_name="teacher")
def finetune_teacher(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Fine-tune the pretrained model on the task's labels."""
    return carry_out(partial(trained, _train), stage, context)


def _train(work: StageInputs, placement: Placement, checkpoints: Checkpoints) -> Trained:
    settings = work.stage.config
    run = training_run(work, "data", placement, checkpoints)
    return finetune(load(settings.pretrained), settings, run)
