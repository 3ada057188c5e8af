"""Stage `assess`: measure student and teacher on rows that chose nothing."""

from rosita_core.data.storage import load_splits
from rosita_core.measuring.assessment import (
    STUDENT,
    Assessment,
    summary_metrics,
    write_assessment,
)
from rosita_core.measuring.baselines import baseline_scores
from rosita_core.measuring.disk import disk_mb
from rosita_core.measuring.memory import peak_mb
from rosita_core.stages.assess import assess
from rosita_core.stages.further import PEOPLE
from tasks.execution.model_inputs import measured_model, model
from tasks.execution.row_inputs import framing, rows
from tasks.execution.set_up import set_up
from tasks.execution.work import Computed, Work

FURTHER = "further"


def compute(work: Work) -> Computed:
    """What was measured."""
    placement = set_up(work)
    dev = {split: rows(work, "data", split) for split in _splits(work, "data")}
    people = None
    if FURTHER in work.stage.inputs:
        dev |= {split: rows(work, FURTHER, split) for split in _splits(work, FURTHER)}
        if (work.input(FURTHER) / "encoded" / f"{PEOPLE}.arrow").is_file():
            people = rows(work, FURTHER, PEOPLE)
    assessment = assess(
        {"teacher": measured_model(work, "teacher"), "student": model(work, "student")},
        dev,
        framing(work),
        work.stage.config,
        placement,
        work.report,
        people,
    )
    with work.output() as folder:
        write_assessment(assessment, folder)
    return work.computed(_summary(work, assessment, placement.device) | _baselines(work))


def _splits(work: Work, role: str) -> list[str]:
    """The dev splits of an artifact."""
    return sorted(path.stem for path in (work.input(role) / "encoded").glob("dev*.arrow"))


def _baselines(work: Work) -> dict[str, float | str]:
    """Scores of what costs next to nothing, on the same rows."""
    settings = work.stage.config
    if not settings.baselines:
        return {}
    splits = load_splits(work.input("data") / "splits")
    score = settings.scoring.score
    return dict(baseline_scores(splits.train, splits.dev, settings.baselines, score))


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
