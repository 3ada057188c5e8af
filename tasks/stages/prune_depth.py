"""Stage `depth`."""

from functools import partial

from prefect import task

from rosita_core.stages.depth import prune_depth as kernel
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained
from rosita_core.training.placement import Placement
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import Context, StageResult, carry_out
from tasks.execution.model_inputs import model
from tasks.execution.outputs import trained
from tasks.execution.row_inputs import training_run
from tasks.execution.stage_inputs import StageInputs


@task(name="depth", task_run_name="depth")
def prune_depth(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Remove layers one at a time while distilling."""
    return carry_out(partial(trained, _train), stage, context)


def _train(work: StageInputs, placement: Placement, checkpoints: Checkpoints) -> Trained:
    run = training_run(work, "rows", placement, checkpoints)
    return kernel(model(work, "teacher"), work.stage.config, run)
