"""Stage `student`: teach BERT(student), the full-size model, on augmented rows."""

from functools import partial

from rosita_core.model.pretrained import load
from rosita_core.stages.student import distill
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained
from rosita_core.training.placement import Placement
from tasks.execution.model_inputs import model
from tasks.execution.outputs import trained
from tasks.execution.row_inputs import training_run
from tasks.execution.stage_inputs import StageInputs


def _train(work: StageInputs, placement: Placement, checkpoints: Checkpoints) -> Trained:
    settings = work.stage.config
    teacher = model(work, "teacher")
    start = teacher if settings.start == "teacher" else load(settings.pretrained)
    return distill(teacher, start, settings, training_run(work, "rows", placement, checkpoints))


compute = partial(trained, _train)
