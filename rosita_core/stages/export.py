"""Stage `export`: the compressed model as files for others, with a card of its scores."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rosita_core.data.encoding import Encoded
from rosita_core.data.framing import Framing
from rosita_core.export import CHECKPOINT, Format, place
from rosita_core.export.checkpoint import export_checkpoint
from rosita_core.export.model_card import CardFacts, Listing
from rosita_core.export.parity import compare, passes
from rosita_core.measuring.assessment import STUDENT, TEACHER, Assessment
from rosita_core.measuring.engines import Engine, Rounds, measure_engines
from rosita_core.measuring.score import Scoring, score_logits
from rosita_core.model.checkpoint import load, shape_of
from rosita_core.model.shape import Shape
from rosita_core.training.label_unit import LabelUnit
from rosita_core.training.progress import Progress, Report

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

ROUNDINGS = 4
"""Of a float32, by which two engines may differ in a large number."""


@dataclass(frozen=True)
class ExportSettings:
    """What is written, and what it says about where the model comes from; see `CardFacts`.

    Attributes:
        formats: what is written; others than the checkpoint lie in folders of their names.
        scoring: how the task is scored.
        latency_batch_sizes, latency_tokens, latency_repeats, latency_warmup: what is timed; with no
            repeats nothing is.
        task: name of the task.
        pair: whether the model reads two texts.
        columns: of the user's own data; see `CardFacts`.
        labels: class names in index order, empty for regression.
        teacher: name of the model that was compressed.
        method, kd_setting, recovered: how it was compressed.
        max_length: tokens per sequence in training.
        seed: of the whole compression.
        notes: sentences that a reader of the scores has to know.
        listing: what the hub lists the model by.
        classes: the data's names of them, where they are others; see `CardFacts`.
    """

    formats: tuple[Format, ...]
    scoring: Scoring
    latency_batch_sizes: tuple[int, ...]
    latency_tokens: int
    latency_repeats: int
    latency_warmup: int
    task: str
    pair: bool
    columns: Mapping[str, str]
    labels: tuple[str, ...]
    teacher: str
    method: str
    kd_setting: str
    recovered: str
    max_length: int
    seed: int
    notes: tuple[str, ...]
    listing: Listing
    classes: tuple[str, ...] = ()


def export(
    student: RositaForSequenceClassification,
    teacher_shape: Shape,
    assessment: Assessment | None,
    tokenizer_dir: Path,
    settings: ExportSettings,
    folder: Path,
) -> None:
    """Write the model into `folder` in every format; see `export_checkpoint`, also for its errors.

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
        columns=settings.columns,
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
        listing=settings.listing,
        classes=settings.classes,
    )
    export_checkpoint(student, tokenizer_dir, settings.labels, card, folder)
    for form in settings.formats:
        if form.name != CHECKPOINT:
            form.write(folder, place(folder, form.name))


def prove(
    folder: Path,
    dev: Encoded,
    unit: LabelUnit | None,
    framing: Framing,
    settings: ExportSettings,
    threads: int,
    report: Report,
) -> dict[str, float | str]:
    """Compare every format that `export` wrote with the checkpoint; what does not agree is removed.

    Args:
        folder: of the export.
        dev: rows that the score is reported on.
        unit: of a regression's labels.
        framing: what stands around texts.
        settings: those of the export.
        threads: of every engine.
        report: called after every batch that all formats have answered, and every round of timing.

    Returns:
        For every format `<name>/score`, `<name>/worst_difference` of a logit (of a regression in
        deviations of the labels), `<name>/bytes` and
        `<name>/latency_ms_p50_b<B>` where there are several; or, where it is left out,
        `<name>/left_out`, which says why. Scores are those of float32 on the CPU, where every
        format is timed too.
    """
    scoring, forms = settings.scoring, {form.name: form for form in settings.formats}
    models = {name: form.load(place(folder, name), threads) for name, form in forms.items()}
    checkpoint = load(folder)
    rounds = _rounds(settings, checkpoint.config.vocab_size, threads)
    timed = rounds.turns if _are_timed(forms, settings) else 0
    steps = _Steps(
        passes(len(dev), scoring.batch_size) + timed, str(shape_of(checkpoint.config)), report
    )
    steps.begin(f"comparing {', '.join(forms)} on {len(dev):,} rows")
    answers = compare(
        checkpoint, models, dev, framing, scoring.batch_size, scoring.max_length, steps.done
    )
    scores = {
        name: score_logits(found.logits_NC, dev.labels, scoring)["score"]
        for name, found in answers.items()
        if math.isfinite(found.worst)
    }
    if CHECKPOINT not in scores:
        raise ValueError("the compressed model must answer with finite numbers, got others")
    told: dict[str, float | str] = {}
    kept: dict[str, Format] = {}
    for name, form in forms.items():
        worst = _in_deviations(answers[name].worst, answers[CHECKPOINT].logits_NC, unit)
        complaint: str | None = "it must answer with finite numbers, got others"
        if name in scores:
            complaint = form.complaint(worst, 100 * (scores[CHECKPOINT] - scores[name]))
        if complaint is not None:
            shutil.rmtree(place(folder, name))
            told[f"{name}/left_out"] = complaint
            continue
        kept[name] = form
        told[f"{name}/score"] = scores[name]
        told[f"{name}/worst_difference"] = worst
    for name in kept:
        files = (path for path in place(folder, name).iterdir() if path.is_file())
        told[f"{name}/bytes"] = float(sum(path.stat().st_size for path in files))
    if _are_timed(kept, settings):
        steps.begin(f"timing {', '.join(kept)}")
        engines = {name: Engine(place(folder, name), form.engine) for name, form in kept.items()}
        for name, measured in measure_engines(engines, rounds, steps.done).items():
            for latency in measured.latencies:
                told[f"{name}/latency_ms_p50_b{latency.batch_size}"] = latency.p50_ms
    return told


def _in_deviations(worst: float, logits_NC: np.ndarray, unit: LabelUnit | None) -> float:
    """A difference of a logit; of a regression's number, what is more than rounding of float32, in
    deviations of the labels."""
    if unit is None:
        return worst
    rounding = ROUNDINGS * float(np.finfo(np.float32).eps) * float(np.abs(logits_NC).max())
    return max(0.0, worst - rounding) / unit.deviation


def _are_timed(forms: Mapping[str, Format], settings: ExportSettings) -> bool:
    # The checkpoint alone has nothing beside it, and `assess` has timed it.
    return settings.latency_repeats > 0 and len(forms) > 1


def _rounds(settings: ExportSettings, vocabulary: int, threads: int) -> Rounds:
    return Rounds(
        settings.latency_batch_sizes,
        settings.latency_tokens,
        settings.latency_repeats,
        settings.latency_warmup,
        settings.seed,
        vocabulary,
        threads,
    )


class _Steps:
    """Counts what is compared and timed, and reports it."""

    def __init__(self, total: int, shape: str, report: Report) -> None:
        self._step, self._total, self._shape, self._report = 0, total, shape, report

    def begin(self, message: str) -> None:
        self._report(Progress(self._step, self._total, {}, self._shape, message))

    def done(self) -> None:
        self._step += 1
        self._report(Progress(self._step, self._total, {}, self._shape, None))
