"""Stage `assess`: the compressed model against its teacher, on rows that chose nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from rosita_core.data.encoding import Encoded
from rosita_core.data.framing import Framing
from rosita_core.data.task_spec import extra_name
from rosita_core.measuring.assessment import STUDENT, TEACHER, Assessment, ModelAssessment
from rosita_core.measuring.domains import domain_metrics
from rosita_core.measuring.latency import Latency, check_latency_request, measure_side_by_side
from rosita_core.measuring.metrics import with_suffix
from rosita_core.measuring.people import people_metrics
from rosita_core.measuring.score import Scoring, predict_logits, score_logits
from rosita_core.model.checkpoint import placed, shape_of
from rosita_core.model.shape import count_macs, count_parameters
from rosita_core.training.placement import Placement
from rosita_core.training.progress import Progress, Report

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

DEV = "dev"


@dataclass(frozen=True)
class AssessSettings:
    """What is measured.

    Attributes:
        scoring: how the task is scored.
        latency_batch_sizes: each is timed.
        latency_tokens: length of what is timed.
        latency_repeats: timed passes of each.
        latency_warmup: rounds before them.
        macs_tokens: length at which multiply-adds are counted.
        seed: of the token ids that are timed.
        domains: further splits `dev_<domain>`, which are summed up.
        baselines: what is scored on the same rows.
    """

    scoring: Scoring
    latency_batch_sizes: tuple[int, ...]
    latency_tokens: int
    latency_repeats: int
    latency_warmup: int
    macs_tokens: int
    seed: int
    domains: tuple[str, ...]
    baselines: tuple[str, ...]


def assess(
    models: Mapping[str, RositaForSequenceClassification],
    dev: Mapping[str, Encoded],
    framing: Framing,
    settings: AssessSettings,
    placement: Placement,
    report: Report,
    people: Encoded | None = None,
) -> Assessment:
    """Size, score and speed of every model, in eval mode whatever mode it comes in.

    Args:
        models: "teacher", "student" and any others, by name; none of them is changed.
        dev: rows for reporting: "dev" gives the score, further splits (dev_mismatched) give
            metrics under names of their own.
        framing: what stands around texts.
        settings: what is measured.
        placement: device and precision of scores and latencies.
        report: called after every split that was scored and every latency that was taken.
        people: rows of two classes whose label is the share of people that said the second.

    Raises:
        ValueError: for a missing model or split, a length outside the models' positions, logits
            that are not finite, and what `check_latency_request` refuses.
    """
    from scipy.special import softmax

    _check(models, dev, settings)
    on_device = {name: placed(model, placement.device).eval() for name, model in models.items()}
    check_latency_request(
        on_device,
        settings.latency_batch_sizes,
        settings.latency_tokens,
        settings.latency_repeats,
        settings.latency_warmup,
    )
    units = len(models) * len(dev) + len(settings.latency_batch_sizes)
    logits: dict[str, dict[str, np.ndarray]] = {name: {} for name in models}
    metrics: dict[str, dict[str, float]] = {name: {} for name in models}
    done = 0
    for name, model in on_device.items():
        for split, rows in dev.items():
            logits[name][split] = _logits(name, model, split, rows, framing, settings, placement)
            found = score_logits(logits[name][split], rows.labels, settings.scoring)
            del found["score"]
            metrics[name] |= found if split == DEV else with_suffix(found, extra_name(split))
            done += 1
            observed = {f"{name}/{split}/{metric}": value for metric, value in found.items()}
            shape = str(shape_of(model.config))
            report(Progress(done, units, observed, shape, f"scored {name} on {split}"))
        score, found = settings.scoring.score, metrics[name]
        others = {domain: found[f"{score}_{domain}"] for domain in settings.domains}
        metrics[name] |= domain_metrics(found[score], others)
        if people is not None:
            said = _logits(name, model, "people", people, framing, settings, placement)
            metrics[name] |= people_metrics(softmax(said, axis=1)[:, 1], people.labels)
    latencies: dict[str, tuple[Latency, ...]] = dict.fromkeys(models, ())
    for batch_size in settings.latency_batch_sizes:
        taken = measure_side_by_side(
            on_device,
            batch_size,
            settings.latency_tokens,
            settings.latency_repeats,
            settings.latency_warmup,
            settings.seed,
            placement,
        )
        latencies = {name: (*latencies[name], taken[name]) for name in latencies}
        done += 1
        message = f"timed batch {batch_size} x {settings.latency_tokens} tokens"
        report(Progress(done, units, {}, None, message))
    return Assessment(
        models={
            name: _model_assessment(model, metrics[name], latencies[name], logits[name], settings)
            for name, model in on_device.items()
        },
        labels={split: np.array(rows.labels) for split, rows in dev.items()},
        score_name=settings.scoring.score,
        macs_tokens=settings.macs_tokens,
        device=placement.device,
        precision=placement.precision,
        threads=torch.get_num_threads(),
    )


def _check(
    models: Mapping[str, RositaForSequenceClassification],
    dev: Mapping[str, Encoded],
    settings: AssessSettings,
) -> None:
    for name in (TEACHER, STUDENT):
        if name not in models:
            raise ValueError(f"models must hold {name} to be assessed, got {', '.join(models)}")
    if DEV not in dev:
        raise ValueError(f"dev must hold the split {DEV!r}, got {', '.join(dev) or 'none'}")
    positions = min(model.config.max_position_embeddings for model in models.values())
    for field, tokens in (
        ("macs_tokens", settings.macs_tokens),
        ("max_length", settings.scoring.max_length),
    ):
        if not 1 <= tokens <= positions:
            raise ValueError(
                f"{field} must be in [1, {positions}], the models' positions, got {tokens}"
            )


def _logits(
    name: str,
    model: RositaForSequenceClassification,
    split: str,
    rows: Encoded,
    framing: Framing,
    settings: AssessSettings,
    placement: Placement,
) -> np.ndarray:
    scoring = settings.scoring
    logits_NC = predict_logits(
        model, rows, scoring.batch_size, scoring.max_length, framing, placement
    )
    bad = np.flatnonzero(~np.isfinite(logits_NC).all(1))
    if len(bad):
        # argmax would turn them into class 0 without a word.
        raise ValueError(f"logits of {name} must be finite, got others in {split} row {bad[0] + 1}")
    return logits_NC


def _model_assessment(
    model: RositaForSequenceClassification,
    metrics: dict[str, float],
    latencies: tuple[Latency, ...],
    logits: dict[str, np.ndarray],
    settings: AssessSettings,
) -> ModelAssessment:
    shape = shape_of(model.config)
    return ModelAssessment(
        shape=str(shape),
        params=count_parameters(shape),
        macs=count_macs(shape, settings.macs_tokens),
        score=metrics[settings.scoring.score],
        metrics=metrics,
        latencies=latencies,
        logits=logits,
    )
