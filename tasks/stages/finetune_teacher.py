"""Stage `teacher`: fine-tune the pretrained model on the task's labels."""

from functools import partial

from rosita_core.model.pretrained import load
from rosita_core.stages.start import start
from rosita_core.stages.teacher import finetune
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.label_unit import LabelUnit
from rosita_core.training.loop import Trained
from rosita_core.training.placement import Placement
from tasks.execution.outputs import trained
from tasks.execution.row_inputs import training_run, training_unit
from tasks.execution.stage_inputs import StageInputs


def _train(work: StageInputs, placement: Placement, checkpoints: Checkpoints) -> Trained:
    settings = work.stage.config
    run = training_run(work, "data", placement, checkpoints)
    as_it_is = settings.training.epochs == 0
    pretrained = settings.pretrained
    model = load(pretrained) if as_it_is else start(pretrained, settings.scoring, run)
    return finetune(model, settings, run)


def _unit(work: StageInputs) -> LabelUnit | None:
    """Of one that is taken as it is no bit changes."""
    return training_unit(work) if work.stage.config.training.epochs else None


compute = partial(trained, _train, unit=_unit)
