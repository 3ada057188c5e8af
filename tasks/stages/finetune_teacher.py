"""Stage `teacher`: fine-tune the pretrained model on the task's labels."""

from functools import partial

from rosita_core.stages.start import start
from rosita_core.stages.teacher import finetune
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained
from rosita_core.training.placement import Placement
from tasks.execution.outputs import trained
from tasks.execution.row_inputs import training_run, training_unit
from tasks.execution.stage_inputs import StageInputs


def _train(work: StageInputs, placement: Placement, checkpoints: Checkpoints) -> Trained:
    settings = work.stage.config
    run = training_run(work, "data", placement, checkpoints)
    return finetune(start(settings.pretrained, training_unit(work)), settings, run)


compute = partial(trained, _train)
