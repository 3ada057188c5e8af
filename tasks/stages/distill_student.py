"""Stage `student`: teach BERT(student), the full-size model, on augmented rows."""

from functools import partial

from rosita_core.stages.start import start
from rosita_core.stages.student import distill
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained
from rosita_core.training.placement import Placement
from tasks.execution.kept_inputs import kept_outputs
from tasks.execution.model_inputs import training_model
from tasks.execution.outputs import trained
from tasks.execution.row_inputs import training_run
from tasks.execution.stage_inputs import StageInputs


def _train(work: StageInputs, placement: Placement, checkpoints: Checkpoints) -> Trained:
    settings = work.stage.config
    run = training_run(work, "rows", placement, checkpoints)
    teacher = begin = training_model(work, "teacher")
    if settings.start != "teacher":
        begin = start(settings.pretrained, settings.scoring, run)
    return distill(teacher, begin, settings, run, kept_outputs(work))


compute = partial(trained, _train)
