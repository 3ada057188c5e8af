"""Stage `one-step`."""

from functools import partial

from prefect import task

from rosita_core.stages.one_step import prune_one_step as kernel
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained
from rosita_core.training.placement import Placement
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import Context, StageResult, carry_out
from tasks.execution.model_inputs import model
from tasks.execution.outputs import trained
from tasks.execution.row_inputs import TRAIN, rows, training_run
from tasks.execution.stage_inputs import StageInputs


@task(name="one-step", task_run_name="one-step")
def prune_one_step(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Rank once, cut once, then distill or fine-tune."""
    return carry_out(partial(trained, _train), stage, context)


def _train(work: StageInputs, placement: Placement, checkpoints: Checkpoints) -> Trained:
    return kernel(
        model(work, "source"),
        model(work, "teacher"),
        model(work, "ranking_teacher"),
        rows(work, "data", TRAIN),
        work.stage.config,
        training_run(work, "rows", placement, checkpoints),
    )
