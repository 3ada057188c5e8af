"""Stage `export`: the compressed model as files for others, with a card of its scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rosita_core.export import Format
from rosita_core.export.model_card import CardFacts
from rosita_core.measuring.assessment import STUDENT, TEACHER, Assessment
from rosita_core.model.modeling_rosita import RositaForSequenceClassification
from rosita_core.model.shape import Shape


@dataclass(frozen=True)
class ExportSettings:
    """What is written, and what it says about where the model comes from; see `CardFacts`.

    Attributes:
        formats: each writes its files into the export's folder.
        task: name of the task.
        pair: whether the model reads two texts.
        labels: class names in index order, empty for regression.
        teacher: name of the model that was compressed.
        method, kd_setting, recovered: how it was compressed.
        max_length: tokens per sequence in training.
        seed: of the whole compression.
        notes: sentences that a reader of the scores has to know.
    """

    formats: tuple[Format, ...]
    task: str
    pair: bool
    labels: tuple[str, ...]
    teacher: str
    method: str
    kd_setting: str
    recovered: str
    max_length: int
    seed: int
    notes: tuple[str, ...]


def export(
    student: RositaForSequenceClassification,
    teacher_shape: Shape,
    assessment: Assessment | None,
    tokenizer_dir: Path,
    settings: ExportSettings,
    folder: Path,
) -> None:
    """Write the model into `folder` in every format; see `Format.write`, also for its errors.

    Latencies are left out of the card, so that the same student and scores give the same bytes.

    Args:
        student: the compressed model; it is not changed.
        teacher_shape: what it was compressed from.
        assessment: its scores, or None for a card without scores.
        tokenizer_dir: where the tokenizer's files lie.
        settings: what the card says.
        folder: where to.
    """
    card = CardFacts(
        task=settings.task,
        pair=settings.pair,
        teacher=settings.teacher,
        teacher_shape=teacher_shape,
        method=settings.method,
        kd_setting=settings.kd_setting,
        recovered=settings.recovered,
        max_length=settings.max_length,
        seed=settings.seed,
        score_name=assessment.score_name if assessment else None,
        teacher_score=assessment.models[TEACHER].score if assessment else None,
        student_score=assessment.models[STUDENT].score if assessment else None,
        retention=assessment.retention if assessment else None,
        notes=settings.notes,
    )
    for form in settings.formats:
        form.write(student, tokenizer_dir, settings.labels, card, folder)
