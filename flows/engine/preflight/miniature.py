"""Every stage in miniature: real models, real batches and the real target, few rows and steps."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.engine.nodes import takes_steps
from flows.method import Node
from flows.recipes.request import Request
from rosita_core.data.encoding import encode
from rosita_core.data.framing import load_tokenizer
from rosita_core.data.sources import sample
from rosita_core.data.storage import load_splits, save_splits
from rosita_core.stages.assess import AssessSettings
from rosita_core.stages.augment import AugmentStageSettings
from rosita_core.stages.cut import CutSettings
from rosita_core.stages.data import DataSettings
from rosita_core.stages.depth import DepthSettings
from rosita_core.stages.export import ExportSettings
from rosita_core.stages.further import FurtherSettings
from rosita_core.stages.measure import MeasureSettings
from rosita_core.stages.teacher import TeacherSettings
from rosita_core.stages.width import WidthSettings
from rosita_core.training.batches import batches_per_epoch
from rosita_core.training.label_unit import LABEL_UNIT, load_unit, save_unit
from rosita_core.training.settings import TrainingSettings

# The optimizer's moments exist from the first step on, so the second one holds the most memory.
STEPS = 2
# The first factorizes the word embedding, the second cuts what is factorized.
WIDTH_PRUNES = 2
# Steps from one prune to the next, rounded: the first falls on step 2, by the sentence above.
SPACING = 1.51


def rows_wanted(request: Request, nodes: Sequence[Node]) -> int:
    """Rows of each split: a full batch of every training, and every class."""
    batches = [node.config.training.batch_size for node in nodes if takes_steps(node)]
    return max(*batches, 2 * request.outputs)


def miniature(config: Any, request: Request, limit: int, train_rows: int, propose: bool) -> Any:
    """The settings of a stage, in miniature.

    Args:
        config: the stage's settings in the recipe.
        request: gives the number of layers.
        limit: rows of each split.
        train_rows: rows of the miniature that a training reads; for other stages it is ignored.
        propose: whether rows are augmented; without it the originals stand for all of them.
    """
    match config:
        case DataSettings():
            rows = min(config.source.limit_rows or limit, limit)
            return replace(config, source=replace(config.source, limit_rows=rows))
        case AugmentStageSettings() if propose:
            copies = min(config.variants.copies, 1)
            return replace(config, variants=replace(config.variants, copies=copies))
        case AugmentStageSettings():
            return replace(
                config, variants=replace(config.variants, copies=0), mlm=None, vectors=None
            )
        case TeacherSettings() if config.training.epochs == 0:
            return config
        case DepthSettings():
            prunes = request.teacher.layers - config.keep_layers
            steps, fraction = _pruning(prunes)
            training = _training(config.training, steps, train_rows)
            return replace(config, training=training, prune_fraction=fraction)
        case WidthSettings():
            prunes = min(config.prune_steps, WIDTH_PRUNES)
            steps, fraction = _pruning(prunes)
            return replace(
                config,
                training=_training(config.training, steps, train_rows),
                prune_steps=prunes,
                prune_fraction=fraction,
            )
        case FurtherSettings():
            return replace(config, limit_rows=min(config.limit_rows or limit, limit))
        case MeasureSettings() | CutSettings():
            return replace(config, calibration=replace(config.calibration, rows=None))
        case AssessSettings():
            return replace(config, latency_repeats=1, latency_warmup=0)
        case ExportSettings():
            return replace(config, latency_repeats=0)
    if hasattr(config, "training"):
        return replace(config, training=_training(config.training, STEPS, train_rows))
    return config


def shrink_data(artifact: Path, folder: Path, rows: int, seed: int) -> dict[str, float | str]:
    """Write `rows` rows of each split of a prepared data artifact into `folder`; row counts.

    A cached artifact is cut and not read from its source again, which may be gone by now.
    """
    splits = load_splits(artifact / "splits")
    stratified = splits.kind == "classification"
    few = {
        name: sample(frame, rows, seed, stratified) if len(frame) else frame
        for name, frame in splits.frames().items()
    }
    save_splits(splits.with_frames(few), folder / "splits")
    save_unit(load_unit(artifact / LABEL_UNIT), folder / LABEL_UNIT)
    shutil.copytree(artifact / "tokenizer", folder / "tokenizer")
    tokenizer = load_tokenizer(folder / "tokenizer")
    (folder / "encoded").mkdir()
    facts: dict[str, float | str] = {}
    for path in (artifact / "encoded").glob("*.arrow"):
        # Fidelity: where checkpoints are chosen on dev, there are no selection rows to cut.
        frame = few[path.stem] if len(few[path.stem]) else few["dev"]
        facts[f"rows_{path.stem}"] = float(
            encode([frame], tokenizer, folder / "encoded" / path.name)
        )
    return facts


def _pruning(prunes: int) -> tuple[int, float]:
    """Steps, and the fraction of them in which to prune: all but the last.

    So the model is trained once more, with the moments that were carried over, after its last cut.
    """
    if prunes == 0:
        return STEPS, 1.0
    steps = round(SPACING * prunes) + 1
    return steps, SPACING * prunes / steps


def _training(settings: TrainingSettings, steps: int, rows: int) -> TrainingSettings:
    """The training, `steps` optimizer steps long, of full batches at full length.

    It is scored once, after its last step.
    """
    accumulate = min(settings.accumulate, 2)
    batches = batches_per_epoch(rows, settings.batch_size, True)
    epochs = steps * accumulate / batches
    return replace(
        settings,
        accumulate=accumulate,
        epochs=epochs,
        evaluations_per_epoch=1 / epochs,
        drop_last=True,
        pad_to_max_length=True,
    )
