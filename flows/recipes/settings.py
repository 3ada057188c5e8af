"""From the fields of a recipe to the settings of each kernel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from flows.recipes.methods import parts_of
from flows.recipes.presets import DEFAULT_SHARE, NO_REPAIR, ROSITA
from flows.recipes.request import Request
from flows.recipes.schema import NO_HIDDEN, Depth, Recipe, Student, Training, Width
from flows.recipes.sizes import limit_of
from rosita_core.augmentation.augment import AugmentSettings
from rosita_core.compression.calibration import Calibration
from rosita_core.compression.schedule import default_width_steps
from rosita_core.data.readers import film_reviews
from rosita_core.data.task_spec import HUB_REPOSITORY
from rosita_core.distillation.layer_mapping import map_layers
from rosita_core.distillation.objective import DistillationSettings
from rosita_core.export.model_card import Listing
from rosita_core.measuring.score import Scoring
from rosita_core.model.locate import MODELS, hub_name
from rosita_core.model.pretrained import Pretrained
from rosita_core.model.shape import Shape
from rosita_core.plug_ins import make
from rosita_core.stages.assess import AssessSettings
from rosita_core.stages.augment import AugmentStageSettings
from rosita_core.stages.cut import CutSettings
from rosita_core.stages.data import DataSettings
from rosita_core.stages.depth import DepthSettings
from rosita_core.stages.export import ExportSettings
from rosita_core.stages.further import FurtherSettings
from rosita_core.stages.measure import MeasureSettings
from rosita_core.stages.one_step import OneStepSettings
from rosita_core.stages.recover import RecoverSettings
from rosita_core.stages.student import StudentSettings
from rosita_core.stages.targets import TargetsSettings
from rosita_core.stages.teacher import TeacherSettings
from rosita_core.stages.width import WidthSettings
from rosita_core.training.loop import TrainingSettings

KEPT_ABOVE = 1.5
"""Passes over its rows: a training that makes more reads a teacher that was computed once."""


def data_settings(request: Request) -> DataSettings:
    """Which rows, and what cuts them."""
    return DataSettings(
        request.source,
        request.recipe.fidelity.select_on_dev,
        request.tokenizer.digest,
        str(request.model.path),
    )


def teacher_settings(request: Request) -> TeacherSettings:
    """How the teacher is fine-tuned."""
    recipe = request.recipe
    training = replace(
        _training(recipe, recipe.teacher), keep_best=not recipe.fidelity.last_step_teacher
    )
    return TeacherSettings(
        _pretrained(request), training, _scoring(request, recipe.teacher.max_length)
    )


def augment_settings(request: Request) -> AugmentStageSettings:
    """How variants of the training rows are made."""
    augment, mlm, vectors = request.recipe.augment, request.mlm, request.vectors
    return AugmentStageSettings(
        variants=AugmentSettings(
            augment.copies, augment.replace_probability, augment.candidates, request.recipe.seed
        ),
        vocabulary=augment.vocabulary,
        mlm_digest=None if mlm is None else mlm.digest,
        vectors_digest=None if vectors is None else vectors.digest,
        mlm_batch_size=augment.mlm_batch_size,
        mlm=None if mlm is None else str(mlm.path),
        vectors=None if vectors is None else str(vectors.path),
    )


def student_settings(request: Request) -> StudentSettings:
    """How BERT(student) is distilled."""
    section = request.recipe.student
    return StudentSettings(
        section.start,
        _pretrained(request),
        _training(request.recipe, section),
        _distillation(request.recipe, section),
        _scoring(request, section.max_length),
    )


def depth_settings(request: Request) -> DepthSettings:
    """How layers go."""
    section = request.recipe.depth
    return DepthSettings(
        _student(request).layers,
        section.prune_fraction,
        request.recipe.fidelity.reset_optimizer,
        _training(request.recipe, section),
        _distillation(request.recipe, section),
        _scoring(request, section.max_length),
    )


def width_settings(request: Request, cut_depth: bool) -> WidthSettings:
    """How heads, FFN units and embedding rank shrink."""
    recipe, section = request.recipe, request.recipe.width
    student = _student(request)
    heads = student.layer_heads[0]
    return WidthSettings(
        start_layers=_start_layers(request) if cut_depth else tuple(range(student.layers)),
        keep_heads=heads,
        ffn_units=student.layer_ffn_units[0],
        embedding_rank=student.rank,
        prune_steps=section.prune_steps or default_width_steps(request.teacher, heads),
        prune_fraction=section.prune_fraction,
        criterion=_criterion(recipe),
        allocation=_allocation(recipe),
        reset_optimizer=recipe.fidelity.reset_optimizer,
        training=_training(recipe, section),
        distillation=_distillation(recipe, section),
        scoring=_scoring(request, section.max_length),
    )


def one_step_settings(request: Request, rank_by: str) -> OneStepSettings:
    """How the model is cut at once and trained afterwards.

    Args:
        rank_by: "labels", or "distillation" for the predictions of the ranking teacher.
    """
    recipe, section = request.recipe, request.recipe.width
    distilled, student = recipe.kd_setting != "none", _student(request)
    criterion = _criterion(recipe)
    by_teacher = rank_by == "distillation" and criterion.needs_gradients
    updates = recipe.fidelity.update_while_ranking and recipe.kd_setting == "2"
    return OneStepSettings(
        start_layers=_start_layers(request),
        keep_heads=student.layer_heads[0],
        ffn_units=student.layer_ffn_units[0],
        embedding_rank=student.rank,
        criterion=criterion,
        allocation=_allocation(recipe),
        ranking=_predictions_alone(recipe, section) if by_teacher else None,
        update_while_ranking=updates and criterion.needs_gradients,
        training=_training(recipe, section),
        distillation=_distillation(recipe, section) if distilled else None,
        scoring=_scoring(request, section.max_length),
    )


def measure_settings(request: Request) -> MeasureSettings:
    """What is measured of the teacher; the same for every criterion and budget."""
    labels = request.recipe.compress.calibration.labels
    return MeasureSettings(_calibration(request), labels, request.spec.kind == "regression")


def cut_settings(request: Request) -> CutSettings:
    """How the teacher is cut without training."""
    recipe, parts = request.recipe, parts_of(request.recipe)
    compress = recipe.compress
    repair = None
    if parts.repair != NO_REPAIR:
        repair = make("compression.repair", parts.repair, ridge=compress.ridge)
    return CutSettings(
        criterion=_criterion(recipe),
        allocation=make("compression.allocation", parts.allocate, first_layer_ranks_heads=False),
        rearrange=parts.rearrange,
        repair=repair,
        limit=limit_of(recipe, DEFAULT_SHARE),
        floor_heads=compress.floor.heads,
        floor_units=compress.floor.units,
        embedding_rank=compress.embedding_rank,
        calibration=_calibration(request),
        scoring=_scoring(request, recipe.width.max_length),
    )


def recover_settings(request: Request) -> RecoverSettings:
    """How what a cut has left is trained: by the fields of width."""
    recipe, section = request.recipe, request.recipe.width
    distilled = recipe.compress.recover == "kd"
    return RecoverSettings(
        training=_training(recipe, section),
        distillation=_distillation(recipe, section) if distilled else None,
        scoring=_scoring(request, section.max_length),
    )


def targets_settings(request: Request, training: Any, shallow: bool) -> TargetsSettings | None:
    """What is kept of a teacher for a training; None where nothing is, and the teacher computes.

    Args:
        training: the settings of any stage but `data`.
        shallow: whether the teacher has lost its top layers.
    """
    kd, distillation = request.recipe.kd, getattr(training, "distillation", None)
    if kd.cache == "none" or distillation is None or distillation.teacher_dropout:
        return None
    reads_states = distillation.reads_states
    # The authors' hidden loss reads padding, of which there is more or less from batch to batch.
    lacking = kd.cache == "predictions" or request.recipe.fidelity.hidden_on_padding
    if training.training.epochs <= KEPT_ABOVE or (reads_states and lacking):
        return None
    layers = _student(request).layers if shallow else request.teacher.layers
    mapped = (map_layers(layers, depth) for depth in _depths(training, layers))
    return TargetsSettings(
        states=tuple(sorted({*chain(*mapped)})) if reads_states else (),
        most_gb=kd.cache_gb if reads_states and kd.cache == "auto" else None,
        max_length=training.training.max_length,
        relu_teacher_head=distillation.relu_teacher_head,
    )


def _depths(training: Any, layers: int) -> Iterable[int]:
    """Layers that the student of a training has on its way, its teacher having `layers`."""
    if isinstance(training, DepthSettings):
        return range(training.keep_layers, layers + 1)
    return (len(getattr(training, "start_layers", range(layers))),)


def _calibration(request: Request) -> Calibration:
    recipe, section = request.recipe, request.recipe.compress.calibration
    return Calibration(section.rows, section.batch_size, recipe.width.max_length, recipe.seed)


def _student(request: Request) -> Shape:
    assert request.student is not None, "the student of rosita has a shape before it runs"
    return request.student


def _start_layers(request: Request) -> tuple[int, ...]:
    """Layers that a one-step depth cut keeps: those whose outputs the student will imitate."""
    keep = _student(request).layers
    imitates = request.recipe.kd_setting != "none"
    if request.recipe.fidelity.bottom_layers or not imitates:
        return tuple(range(keep))
    return tuple(state - 1 for state in map_layers(request.teacher.layers, keep)[1:])


def assess_settings(request: Request) -> AssessSettings:
    """What is measured."""
    recipe, section = request.recipe, request.recipe.assess
    scoring = _scoring(request, recipe.width.max_length)
    return AssessSettings(
        scoring=replace(scoring, batch_size=section.batch_size),
        latency_batch_sizes=section.latency_batch_sizes,
        latency_tokens=section.latency_tokens,
        latency_repeats=section.latency_repeats,
        latency_warmup=section.latency_warmup,
        macs_tokens=section.macs_tokens,
        seed=recipe.seed,
        domains=section.domains,
        baselines=section.baselines,
    )


def further_settings(request: Request) -> FurtherSettings:
    """What is read beside the task's own rows."""
    source, section = request.source, request.recipe.assess
    return FurtherSettings(
        digest=film_reviews.SHA256,
        domains=section.domains,
        people=section.people,
        limit_rows=source.limit_rows,
        seed=source.seed,
        cache=source.cache,
    )


def export_settings(request: Request) -> ExportSettings:
    """What the exported checkpoint says of itself."""
    recipe = request.recipe
    notes = []
    if recipe.fidelity.select_on_dev:
        notes.append("Checkpoints were chosen on the rows that the scores are reported on.")
    return ExportSettings(
        formats=tuple(
            make("export", name, int8_loss=recipe.export.int8_loss)
            for name in recipe.export.formats
        ),
        scoring=replace(
            _scoring(request, recipe.width.max_length), batch_size=recipe.assess.batch_size
        ),
        latency_batch_sizes=recipe.assess.latency_batch_sizes,
        latency_tokens=recipe.assess.latency_tokens,
        latency_repeats=recipe.assess.latency_repeats,
        latency_warmup=recipe.assess.latency_warmup,
        task=recipe.task,
        pair=request.spec.pair,
        columns=_columns(recipe),
        labels=request.labels,
        classes=() if request.labels == request.spec.labels else request.spec.labels,
        teacher=Path(recipe.teacher.model).name,
        method=recipe.method,
        kd_setting=recipe.kd_setting,
        recovered=recipe.compress.recover,
        max_length=recipe.width.max_length,
        seed=recipe.seed,
        notes=tuple(notes),
        listing=_listing(request),
    )


def _listing(request: Request) -> Listing:
    name, spec = request.recipe.teacher.model, request.spec
    # Own rows may be of any language, whatever the task is called.
    own = request.source.source == "files"
    glue = not own and spec.hub_name is not None
    return Listing(
        base_model=hub_name(name),
        license=MODELS[name].license if name in MODELS else None,
        language=None if own else "en",
        dataset=HUB_REPOSITORY if glue else None,
        dataset_config=spec.hub_name if glue else None,
        dataset_split=spec.dev_splits[0].replace("dev", "validation") if glue else None,
    )


def _columns(recipe: Recipe) -> dict[str, str]:
    """The columns of own data; other data has columns that no recipe names."""
    if recipe.data.source != "files":
        return {}
    named = recipe.data.columns.model_dump()
    return {role: name for role, name in named.items() if name is not None}


def _pretrained(request: Request) -> Pretrained:
    recipe = request.recipe
    return Pretrained(
        family=request.family,
        digest=request.model.digest,
        outputs=request.outputs,
        order=request.order,
        seed=recipe.seed,
        name=recipe.teacher.model,
        path=str(request.model.path),
    )


def _scoring(request: Request, max_length: int) -> Scoring:
    spec = request.spec
    return Scoring(
        spec.metrics,
        spec.score,
        spec.kind == "regression",
        request.recipe.assess.batch_size,
        max_length,
    )


def _criterion(recipe: Recipe) -> Any:
    compress = recipe.compress
    name = compress.rank or ("taylor" if recipe.method == ROSITA else parts_of(recipe).rank)
    return make("compression.criteria", name, seed=recipe.seed, **compress.kcm.model_dump())


def _allocation(recipe: Recipe) -> Any:
    first_layer = recipe.fidelity.first_layer_ranks_heads
    return make("compression.allocation", "uniform", first_layer_ranks_heads=first_layer)


def _distillation(recipe: Recipe, section: Student | Depth | Width) -> DistillationSettings:
    predictions = _predictions_alone(recipe, section)
    if section.hidden == NO_HIDDEN:
        return predictions
    on_padding = recipe.fidelity.hidden_on_padding
    hidden = make("distillation.objectives", section.hidden, on_padding=on_padding)
    return replace(predictions, losses=(*predictions.losses, hidden))


def _predictions_alone(recipe: Recipe, section: Student | Depth | Width) -> DistillationSettings:
    predictions = make(
        "distillation.objectives",
        "predictions",
        temperature=section.temperature,
        average_over_classes=recipe.fidelity.average_over_classes,
    )
    return DistillationSettings(
        losses=(predictions,),
        teacher_dropout=recipe.fidelity.teacher_dropout,
        relu_teacher_head=recipe.fidelity.relu_teacher_head,
    )


def _training(recipe: Recipe, section: Training) -> TrainingSettings:
    fidelity = recipe.fidelity
    return TrainingSettings(
        learning_rate=section.learning_rate,
        epochs=section.epochs,
        schedule=section.schedule,
        warmup=section.warmup,
        batch_size=section.batch_size,
        accumulate=section.accumulate,
        max_length=section.max_length,
        weight_decay=section.weight_decay,
        clip_norm=section.clip_norm,
        clip_per_tensor=fidelity.bert_adam,
        bias_correction=not fidelity.bert_adam,
        evaluations_per_epoch=section.evaluations_per_epoch,
        patience=section.patience,
        keep_best=True,
        dropout=section.dropout,
        drop_last=fidelity.drop_last_batch,
        pad_to_max_length=fidelity.pad_to_max_length,
        seed=recipe.seed,
    )
