"""Stage `student`: teach BERT(student), the full-size model, on augmented rows."""

from functools import partial

from rosita_core.stages.student import distill
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained
from rosita_core.training.placement import Placement
from tasks.execution.kept_inputs import kept_outputs
from tasks.execution.model_inputs import pretrained_model, training_model
from tasks.execution.outputs import trained
from tasks.execution.row_inputs import training_run
from tasks.execution.stage_inputs import StageInputs


def _train(work: StageInputs, placement: Placement, checkpoints: Checkpoints) -> Trained:
    settings = work.stage.config
    teacher = training_model(work, "teacher")
    start = teacher if settings.start == "teacher" else pretrained_model(work, settings.pretrained)
    run = training_run(work, "rows", placement, checkpoints)
    return distill(teacher, start, settings, run, kept_outputs(work))


compute = partial(trained, _train)
