"""Stage `width`: prune heads, FFN units and embedding rank step by step while distilling."""

from functools import partial

from rosita_core.stages.width import prune_width as kernel
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained
from rosita_core.training.placement import Placement
from tasks.execution.kept_inputs import kept_outputs
from tasks.execution.model_inputs import training_model
from tasks.execution.outputs import trained
from tasks.execution.row_inputs import training_run
from tasks.execution.stage_inputs import StageInputs


def _train(work: StageInputs, placement: Placement, checkpoints: Checkpoints) -> Trained:
    run = training_run(work, "rows", placement, checkpoints)
    return kernel(training_model(work, "teacher"), work.stage.config, run, kept_outputs(work))


compute = partial(trained, _train)
