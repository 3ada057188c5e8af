"""Stages `<training>-targets`: what the teacher says of a training's rows, computed once."""

from rosita_core.stages.targets import keep_targets
from tasks.execution.model_inputs import training_model
from tasks.execution.row_inputs import TRAIN, framing, rows
from tasks.execution.set_up import set_up
from tasks.execution.work import Computed, Work


def compute(work: Work) -> Computed:
    """The outputs, or a note that they would be too large."""
    with work.resumable() as checkpoints:
        placement = set_up(work)
        with work.output() as folder:
            facts = keep_targets(
                training_model(work, "teacher"),
                rows(work, "rows", TRAIN),
                framing(work),
                work.stage.config,
                placement,
                folder,
                work.report,
                checkpoints,
            )
    return work.computed(facts)
