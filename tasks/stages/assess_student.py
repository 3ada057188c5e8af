"""Stage `assess`: measure student and teacher on rows that chose nothing."""

from rosita_core.measuring.assessment import (
    STUDENT,
    Assessment,
    summary_metrics,
    write_assessment,
)
from rosita_core.measuring.disk import disk_mb
from rosita_core.measuring.memory import peak_mb
from rosita_core.stages.assess import assess
from tasks.execution.model_inputs import model
from tasks.execution.row_inputs import framing, rows
from tasks.execution.set_up import set_up
from tasks.execution.work import Computed, Work


def compute(work: Work) -> Computed:
    """What was measured."""
    placement = set_up(work)
    encoded = work.input("data") / "encoded"
    splits = sorted(path.stem for path in encoded.glob("dev*.arrow"))
    assessment = assess(
        {"teacher": model(work, "teacher"), "student": model(work, "student")},
        {split: rows(work, "data", split) for split in splits},
        framing(work),
        work.stage.config,
        placement,
        work.report,
    )
    with work.output() as folder:
        write_assessment(assessment, folder)
    return work.computed(_summary(work, assessment, placement.device))


def _summary(work: Work, assessment: Assessment, device: str) -> dict[str, float | str]:
    student = assessment.models[STUDENT]
    summary: dict[str, float | str] = {
        **summary_metrics(student),
        "compression": assessment.compression,
        "disk_mb": disk_mb(work.input("student")),
        # Of the process so far: in a run that trained, of its training.
        "peak_memory_mb": peak_mb(device),
        "shape": student.shape,
    }
    if assessment.retention is not None:
        summary["retention"] = assessment.retention
    return summary
