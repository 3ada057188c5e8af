"""Stage `measure`: what every criterion reads of rows, in one pass over the teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosita_core.compression.calibration import Calibration
from rosita_core.compression.measuring import Measuring
from rosita_core.compression.statistics import Statistics, measured_bytes
from rosita_core.data.encoding import Encoded
from rosita_core.data.framing import Framing
from rosita_core.model.checkpoint import shape_of
from rosita_core.model.shape import count_parameters
from rosita_core.training.placement import Placement
from rosita_core.training.progress import Progress, Report

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

BATCHES_PER_REPORT = 10
# The sums are in float64 where they are made, and beside them lie the model and its copy.
SUMS, MODELS, BYTES = 2, 2, 4


@dataclass(frozen=True)
class MeasureSettings:
    """What is measured.

    Attributes:
        calibration: which training rows.
        labels: whether their labels are read.
        regression: whether the model predicts a number.
    """

    calibration: Calibration
    labels: bool
    regression: bool


def measure(
    model: RositaForSequenceClassification,
    rows: Encoded,
    framing: Framing,
    settings: MeasureSettings,
    placement: Placement,
    report: Report,
) -> Statistics:
    """Statistics of `model` in eval mode and float32; no other precision ranks as well.

    Args:
        model: it is not changed.
        rows: the training rows; a sample of them is read.
        framing: what stands around texts.
        settings: what is measured.
        placement: where to compute.
        report: called at first with what it needs in memory, then as it goes on.

    Raises:
        ValueError: where there are fewer rows than wanted.
    """
    shape = shape_of(model.config)
    count = len(settings.calibration.chosen(len(rows)))
    needed = SUMS * measured_bytes(shape) + MODELS * BYTES * count_parameters(shape).total
    message = f"measuring {count:,} rows; needs about {needed / 1e6:,.0f} MB and its batches"
    report(Progress(0, count, {}, str(shape), message))
    found = Measuring(model, placement.device, settings.labels, settings.regression)
    done = 0
    for number, batch in enumerate(settings.calibration.batches(rows, framing), start=1):
        found.add(batch.to(placement.device))
        done += len(batch.labels)
        if number % BATCHES_PER_REPORT == 0 or done == count:
            report(Progress(done, count, {}, str(shape), None))
    return found.statistics()
