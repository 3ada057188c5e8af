"""Stage `depth`."""

from prefect import task

from rosita_core.stages.depth import prune_depth as kernel
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained
from rosita_core.training.numerics import Numerics
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import Context, StageResult, attempt
from tasks.execution.inputs import finish_training, model, rows, special
from tasks.execution.parallel import in_processes
from tasks.execution.stage_inputs import StageInputs


@task(name="depth", task_run_name="depth")
def prune_depth(stage: Stage, context: Context, upstream: list[StageResult]) -> StageResult:
    """Remove layers one at a time while distilling."""
    with attempt(stage, context) as work, work.resumable() as checkpoints:
        return finish_training(work, in_processes(_train, work, checkpoints))


def _train(work: StageInputs, numerics: Numerics, checkpoints: Checkpoints) -> Trained:
    return kernel(
        model(work, "teacher"),
        rows(work, "rows", "train"),
        rows(work, "data", "select"),
        special(work),
        work.stage.config,
        numerics,
        work.report,
        checkpoints,
    )
