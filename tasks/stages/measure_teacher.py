"""Stage `measure`: what criteria read of rows, measured of the teacher once."""

from rosita_core.compression.statistics import save_statistics
from rosita_core.stages.measure import measure
from tasks.execution.model_inputs import training_model
from tasks.execution.row_inputs import TRAIN, framing, training_rows
from tasks.execution.set_up import set_up
from tasks.execution.work import Computed, Work


def compute(work: Work) -> Computed:
    """The statistics."""
    placement = set_up(work)
    statistics = measure(
        *(training_model(work, "teacher"), training_rows(work, "data", TRAIN), framing(work)),
        *(work.stage.config, placement, work.report),
    )
    with work.output() as folder:
        save_statistics(statistics, folder)
    return work.computed({"rows": float(statistics.rows), "tokens": float(statistics.tokens)})
