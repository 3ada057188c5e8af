"""What the processes of `tests.bench.parallel` run: a distillation of MiniLM-L6's size."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import BertTokenizerFast

from rosita_core.data.encoding import Encoded, encode
from rosita_core.data.framing import Framing, Template
from rosita_core.distillation.objective import distillation_objective
from rosita_core.model.checkpoint import fresh
from rosita_core.model.modeling_rosita import RositaConfig
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained, train
from rosita_core.training.placement import Placement
from rosita_core.training.progress import Progress
from rosita_core.training.run import TrainingRun
from tasks.execution.stage_inputs import StageInputs
from tests.shared.small_trainings import DISTILLATION, TRAINING

BATCH, TOKENS, STEPS, WARMUP = 32, 16, 24, 4
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
# The sizes of MiniLM-L6.
HIDDEN, LAYERS, HEADS, UNITS = 384, 6, 12, 1536


def write_rows(folder: Path) -> None:
    """Rows of `TOKENS` tokens, special ones included."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS[5:], TOKENS - 2)) for _ in range(BATCH * STEPS)]
    labels = random.integers(0, 2, len(texts))
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(WORDS)})
    encode([pd.DataFrame({"text_a": texts, "label": labels})], tokenizer, folder / "rows.arrow")


def distill(work: StageInputs, placement: Placement, checkpoints: Checkpoints) -> Trained:
    """One epoch of hidden states and predictions; the first process notes when each step ended."""
    config = RositaConfig(
        hidden_size=HIDDEN,
        head_size=HIDDEN // HEADS,
        layer_heads=[HEADS] * LAYERS,
        layer_ffn_units=[UNITS] * LAYERS,
        problem_type="single_label_classification",
    )
    folder = Path(work.context.home)
    teacher, student = fresh(config, 0), fresh(config, 1)
    settings = replace(
        TRAINING,
        learning_rate=1e-5,
        batch_size=BATCH,
        max_length=TOKENS,
        # A report, which times the step, after every step.
        evaluations_per_epoch=STEPS,
    )

    def report(event: Progress) -> None:
        if event.metrics and placement.group.rank == 0:
            with (folder / "steps").open("a", encoding="utf-8") as file:
                file.write(f"{time.perf_counter()}\n")

    rows = Encoded(folder / "rows.arrow")
    single = Template(((2,), (3,)), ((0,), (0,)), (0,))
    framing = Framing(single, single, pad=0, keep_end=False)
    run = TrainingRun(rows, rows, framing, placement, report, checkpoints)
    objective = distillation_objective(teacher, DISTILLATION, placement)
    return train(student, settings, objective, run, lambda _: {"score": 0.0})
