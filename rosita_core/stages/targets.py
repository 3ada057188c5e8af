"""Stage `<training>-targets`: what the teacher says of a training's rows, computed once.

Letters: N rows of a group, K their tokens, S kept states, H hidden size, C outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from rosita_core.data.encoding import Encoded
from rosita_core.data.framing import Framing
from rosita_core.distillation.kept import (
    KeptFacts,
    group_file,
    kept_bytes,
    write_facts,
    write_group,
)
from rosita_core.distillation.objective import frozen, teacher_outputs
from rosita_core.model.checkpoint import shape_of
from rosita_core.training.batches import collate
from rosita_core.training.checkpoints import Checkpoints, link_or_copy, read_state, write_state
from rosita_core.training.placement import Placement
from rosita_core.training.progress import Progress, Report

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

TOKENS_PER_FILE, ROWS_PER_FILE = 16_384, 4_096
"""What a stop may cost, and what is held in memory; the second where no state is kept, of files
that would be small and many."""
ROWS_PER_BATCH = 32


@dataclass(frozen=True)
class TargetsSettings:
    """What of a teacher is kept.

    Attributes:
        states: numbers of its hidden states that the training learns from; empty for none.
        most_gb: where all of it would take more (10^9 bytes), nothing is kept; None for no bound.
        max_length: tokens per sequence.
        relu_teacher_head: see `DistillationSettings`.
    """

    states: tuple[int, ...]
    most_gb: float | None
    max_length: int
    relu_teacher_head: bool


def framed_lengths(rows: Encoded, framing: Framing, max_length: int) -> np.ndarray:
    """Tokens of each row (N,), framed and cut to `max_length`."""
    special = (framing.pair if rows.pair else framing.single).special
    return np.minimum(rows.lengths.astype(np.int64) + special, max_length)


def keep_targets(
    teacher: RositaForSequenceClassification,
    rows: Encoded,
    framing: Framing,
    settings: TargetsSettings,
    placement: Placement,
    folder: Path,
    report: Report,
    checkpoints: Checkpoints,
) -> dict[str, float | str]:
    """Write what `rosita_core.distillation.kept` reads into `folder`; returns the
    rows that are kept, and the megabytes that all need (10^6 bytes).

    A checkpoint holds the files made so far, as links to them.

    Args:
        teacher: it is not changed.
        rows: of the training.
        framing: what stands around texts.
        settings: what is kept.
        placement: where to compute.
        folder: empty.
        report: called with what it takes, and after every group of rows.
        checkpoints: counted in rows.

    Raises:
        ValueError: where a hidden state is no number or too large for 16 bits.
    """
    lengths = framed_lengths(rows, framing, settings.max_length)
    total, shape = len(rows), shape_of(teacher.config)
    size = kept_bytes(shape, total, float(lengths.sum()), len(settings.states)) / 1e9
    if settings.most_gb is not None and size > settings.most_gb:
        what = f"{total:,} rows would take {size:,.1f} GB, more than {settings.most_gb:g}"
        report(Progress(total, total, {}, None, f"{what}: nothing is kept"))
        write_facts(folder, KeptFacts(0, (), 0, 0))
        return {"rows": 0.0, "needed_mb": size * 1e3}
    report(Progress(0, total, {}, None, f"{total:,} rows take {size * 1e3:,.1f} MB"))
    groups = _groups(lengths, bool(settings.states))
    done = _resumed(checkpoints, folder)
    teacher = frozen(teacher, placement).eval()
    for number, group in enumerate(groups):
        if number < done:
            continue
        outputs_of = _computed(teacher, rows, group, lengths, framing, settings, placement)
        write_group(group_file(folder, number), *outputs_of)
        seen = int(group[-1]) + 1
        report(Progress(seen, total, {}, None, None))
        if seen < total and checkpoints.due(seen):
            checkpoints.save(seen, total, partial(_write, folder, number + 1))
    write_facts(folder, KeptFacts(total, settings.states, shape.layers + 1, len(groups)))
    return {"rows": float(total), "needed_mb": size * 1e3}


def _groups(lengths: np.ndarray, states: bool) -> list[np.ndarray]:
    """Numbers of rows that share a file: neighbours of about as many tokens, or rows, as others."""
    if states:
        number = np.cumsum(lengths) // TOKENS_PER_FILE
    else:
        number = np.arange(len(lengths)) // ROWS_PER_FILE
    return np.split(np.arange(len(lengths)), np.flatnonzero(np.diff(number)) + 1)


def _computed(
    teacher: RositaForSequenceClassification,
    rows: Encoded,
    group: np.ndarray,
    lengths: np.ndarray,
    framing: Framing,
    settings: TargetsSettings,
    placement: Placement,
) -> tuple[torch.Tensor, np.ndarray, torch.Tensor]:
    """Logits (N, C) float32, lengths (N,) and states (K, S, H) float16 of a group of rows."""
    own = lengths[group]
    starts = np.cumsum(own) - own
    frame = shape_of(teacher.config).frame
    logits_NC = torch.empty(len(group), frame.outputs)
    size = (int(own.sum()), len(settings.states), frame.hidden_size)
    states_KSH = torch.empty(size, dtype=torch.float16)
    order = np.argsort(own, kind="stable")
    for start in range(0, len(order), ROWS_PER_BATCH):
        some = order[start : start + ROWS_PER_BATCH]
        batch = collate(rows, group[some], settings.max_length, framing, False)
        with placement.autocast():
            found = teacher_outputs(
                *(teacher, batch.to(placement.device), settings.relu_teacher_head),
                states=bool(settings.states),
            )
        logits_NC[some] = found.logits.float().cpu()
        for place, state in enumerate(settings.states):
            state_BTH = found.states[state].half().cpu()
            for one, state_TH in zip(some, state_BTH, strict=True):
                states_KSH[starts[one] : starts[one] + own[one], place] = state_TH[: own[one]]
    # The largest of 16-bit numbers, NaN among them, in a quarter of the time of isfinite.
    if settings.states and not math.isfinite(states_KSH.abs().max()):
        raise ValueError(
            f"kd.cache must be none or predictions for a teacher whose hidden states are no "
            f"numbers or exceed {torch.finfo(torch.float16).max:,.0f}, got such a one"
        )
    return logits_NC, own, states_KSH


def _resumed(checkpoints: Checkpoints, folder: Path) -> int:
    """Bring back the files of the newest checkpoint; returns how many there are."""
    saved = checkpoints.latest()
    if saved is None:
        return 0
    done: int = read_state(saved)["files"]
    for number in range(done):
        link_or_copy(group_file(saved, number), group_file(folder, number))
    return done


def _write(source: Path, files: int, folder: Path) -> None:
    for number in range(files):
        link_or_copy(group_file(source, number), group_file(folder, number))
    write_state(folder, {"files": files})
