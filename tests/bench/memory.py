"""Time and memory of what grows with the rows, from 1,000 to 1,000,000: `make bench-memory`.

Augmentation, a teacher's outputs to disk, and a training that reads them, each at each size in a
process of its own and with models so small that the time is that of the rows. Own memory is what
the process has for itself (RssAnon); the peak has the pages of mapped files in it as well, which
the system takes back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import BertTokenizerFast

from rosita_core.augmentation.augment import AugmentSettings
from rosita_core.augmentation.vectors import WordVectors
from rosita_core.data.encoding import Encoded, encode
from rosita_core.data.framing import framing_of
from rosita_core.distillation.kept import read_kept
from rosita_core.distillation.objective import distillation_objective
from rosita_core.measuring.memory import forget_peak, peak_resident_mib
from rosita_core.model.checkpoint import fresh
from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification
from rosita_core.stages.augment import AugmentStageSettings, augment_data
from rosita_core.stages.targets import TargetsSettings, keep_targets
from rosita_core.training.checkpoints import NoCheckpoints
from rosita_core.training.loop import train
from rosita_core.training.placement import Placement
from rosita_core.training.run import TrainingRun
from tasks.host.hardware import cores, hardware
from tests.bench.training import in_a_process
from tests.shared.small_trainings import DISTILLATION, TRAINING

SIZES = (1_000, 10_000, 100_000, 1_000_000)
JOBS = ("augment", "targets", "train")
WORDS = [a + b + c for a in "bdfgklmn" for b in "aeiou" for c in "bdfgklmn"]
TOKENS, LAYERS, HIDDEN = 12, 2, 32
BATCH, CHUNK = 32, 10_000
MOST_BYTES_A_ROW, CHECKED_FROM = 100, 100_000
"""What each may need of its own memory for every further row, from so many rows on: below that,
buffers that have a size of their own are still filling."""


def texts(rows: int, first: int) -> pd.DataFrame:
    """Made sentences; the same whatever the size."""
    random = np.random.default_rng([0, first])
    words = random.choice(WORDS, (rows, TOKENS - 2))
    return pd.DataFrame({"text_a": [" ".join(row) for row in words], "label": [0] * rows})


def tokenizer() -> BertTokenizerFast:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    return BertTokenizerFast(vocab={word: index for index, word in enumerate(vocabulary)})


def model(seed: int) -> RositaForSequenceClassification:
    config = RositaConfig(
        vocab_size=len(WORDS) + 5,
        hidden_size=HIDDEN,
        head_size=HIDDEN // 2,
        layer_heads=[2] * LAYERS,
        layer_ffn_units=[HIDDEN] * LAYERS,
        max_position_embeddings=64,
        problem_type="single_label_classification",
    )
    return fresh(config, seed)


def augment(rows: int, folder: Path) -> Callable[[], object]:
    """Two variants of every row. The table of the rows is there before: it is an input."""
    frame = pd.concat([texts(min(CHUNK, rows), start) for start in range(0, rows, CHUNK)])
    matrix = np.random.default_rng(0).normal(size=(len(WORDS), 8)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    settings = AugmentStageSettings(
        variants=AugmentSettings(2, 0.4, 15, 1),
        vocabulary=len(WORDS),
        mlm_digest=None,
        vectors_digest=None,
        mlm_batch_size=1,
        mlm=None,
        vectors=None,
    )
    return partial(
        augment_data,
        *(frame.reset_index(drop=True), settings, None, WordVectors(WORDS, matrix)),
        *(tokenizer(), folder, lambda _: None, NoCheckpoints()),
    )


def written(rows: int, folder: Path) -> Path:
    """The rows as the data stage leaves them."""
    frames = (texts(min(CHUNK, rows), start) for start in range(0, rows, CHUNK))
    encode(frames, tokenizer(), folder / "rows.arrow")
    return folder / "rows.arrow"


def targets(rows: int, folder: Path) -> Callable[[], object]:
    """Predictions and all hidden states of every row, to disk."""
    path, framing = written(rows, folder), framing_of(tokenizer())
    (folder / "kept").mkdir()
    settings = TargetsSettings(tuple(range(LAYERS + 1)), None, TOKENS, False)

    def keep() -> None:
        keep_targets(
            *(model(0), Encoded(path), framing, settings, Placement("cpu", "fp32")),
            *(folder / "kept", lambda _: None, NoCheckpoints()),
        )

    return keep


def training(rows: int, folder: Path) -> Callable[[], object]:
    """One pass over the rows that reads what was kept of them."""
    targets(rows, folder)()
    placement, framing = Placement("cpu", "fp32"), framing_of(tokenizer())
    settings = replace(TRAINING, batch_size=BATCH, max_length=TOKENS, evaluations_per_epoch=1)

    def pass_over() -> None:
        encoded = Encoded(folder / "rows.arrow")
        kept = read_kept(folder / "kept")
        run = TrainingRun(encoded, encoded, framing, placement, lambda _: None, NoCheckpoints())
        objective = distillation_objective(model(0), DISTILLATION, placement, kept)
        train(model(1), settings, objective, run, lambda _: {"score": 0.0})

    return pass_over


MADE = {"augment": augment, "targets": targets, "train": training}


class OwnMemory:
    """The most that this process has for itself while it is watched, in bytes (Linux)."""

    def __init__(self) -> None:
        self.most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> OwnMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.most = max(self.most, own_bytes())


def own_bytes() -> int:
    """RssAnon of this process now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no RssAnon: memory is measured on Linux")


def measured(job: str, rows: int, folder: Path) -> dict[str, float]:
    """Seconds, and MiB above what the process had before: of its own, and at the peak."""
    # Libraries and pools of memory are there before anything is measured.
    (folder / "warm").mkdir()
    MADE[job](2 * BATCH, folder / "warm")()
    (folder / "whole").mkdir()
    work = MADE[job](rows, folder / "whole")
    forget_peak("cpu")
    before, peak = own_bytes(), peak_resident_mib()
    began = time.perf_counter()
    with OwnMemory() as own:
        work()
    return {
        "seconds": time.perf_counter() - began,
        "own_mib": max(0, own.most - before) / 2**20,
        "peak_mib": peak_resident_mib() - peak,
    }


def grown(found: dict[int, dict[str, float]]) -> float:
    """Bytes of own memory for every further row, between the two largest sizes."""
    less, more = sorted(found)[-2:]
    return (found[more]["own_mib"] - found[less]["own_mib"]) * 2**20 / (more - less)


def main(arguments: list[str]) -> None:
    """Print the table; ends with 1 where a bound is broken."""
    parser = argparse.ArgumentParser(prog="tests.bench.memory")
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="sizes, two at least")
    parser.add_argument("--one", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=cores(), help="of every process")
    given = parser.parse_args(arguments)
    if given.one:
        torch.set_num_threads(given.threads)
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(measured(given.one, given.rows[0], Path(scratch))))
        return
    if len(set(given.rows)) < 2 or min(given.rows) < 1:
        parser.error(f"--rows must be at least two sizes above 0, got {given.rows}")
    facts = hardware()
    print(
        f"{facts['cpu']}, {given.threads} threads, {facts['memory_gib']} GiB; "
        f"Python {facts['python']}, torch {facts['torch']}; "
        f"hidden size {HIDDEN}, {TOKENS} tokens a row\n\n"
        "| what | rows | seconds | own memory, MiB | peak, MiB |\n|---|---|---|---|---|",
        flush=True,
    )
    kept: dict[str, dict[int, dict[str, float]]] = {job: {} for job in JOBS}
    for job in JOBS:
        for rows in sorted(set(given.rows)):
            asked = ["--one", job, "--rows", str(rows), "--threads", str(given.threads)]
            one = kept[job][rows] = in_a_process("tests.bench.memory", asked, True)
            cells = f"{one['seconds']:.1f} | {one['own_mib']:.0f} | {one['peak_mib']:.0f}"
            print(f"| {job} | {rows:,} | {cells} |", flush=True)
    print("\n| what | own bytes for a further row | at most |\n|---|---|---|")
    for job, found in kept.items():
        print(f"| {job} | {grown(found):.0f} | {MOST_BYTES_A_ROW} |")
    smaller = sorted(set(given.rows))[-2]
    if smaller >= CHECKED_FROM and any(grown(kept[job]) > MOST_BYTES_A_ROW for job in JOBS):
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
