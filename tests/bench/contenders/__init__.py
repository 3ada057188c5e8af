"""What `tests.bench.training` compares: ways to distil one student from one teacher, a file each.

A contender is a function `train(material, dropout)` that makes one pass over the material's rows.
All of them get the same word pieces, the same weights and the same two losses. What is timed and
counted is seen from outside (`watch.py`), alike for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

import torch

from rosita_core.data.encoding import Encoded
from rosita_core.data.framing import Framing, framing_of, load_tokenizer
from rosita_core.model.checkpoint import fresh, with_dropout
from rosita_core.model.locate import locate
from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification
from rosita_core.model.pretrained import load_pretrained

TEACHER = "minilm-l6"
BATCH, MAX_LENGTH, OUTPUTS = 32, 64, 2
LEARNING_RATE, WEIGHT_DECAY, EPSILON, CLIP = 1e-5, 0.01, 1e-6, 1.0
DROPOUT = 0.1
LAYERS, HEADS, UNITS, RANK = 6, 2, 128, 48
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPE = f"a{HEADS}_l{LAYERS}_f{UNITS}_e{RANK}"

OURS = ("ours", "ours_kept")
NAMES = ("authors", "hugging_face", "text_brewer", *OURS)


@dataclass(frozen=True)
class Material:
    """What a contender trains on.

    Attributes:
        folder: empty, for what it writes.
        rows: word pieces in a file, as this project reads them.
        framing: what stands around texts.
        precision: fp32, or bf16 where `DEVICE` computes it natively.
        dropout: of teacher and student.
    """

    folder: Path
    rows: Encoded
    framing: Framing
    precision: str
    dropout: float

    def ids(self) -> list[list[int]]:
        """Token ids of every row, special ones included, as the other contenders read them."""
        frame, rows = self.framing.frame, self.rows
        return [frame(rows.first(i), None, MAX_LENGTH)[0].tolist() for i in range(len(rows))]

    def teacher(self) -> RositaForSequenceClassification:
        """MiniLM with a classifier, in eval mode, on `DEVICE`."""
        model = with_dropout(load_pretrained(locate(TEACHER), OUTPUTS, seed=0), self.dropout)
        return model.to(DEVICE)

    def student(self) -> RositaForSequenceClassification:
        """A student of `SHAPE`, in train mode. Its weights decide no speed: they are drawn."""
        wide = self.teacher().config
        config = RositaConfig.from_dict(wide.to_dict())
        config.layer_heads, config.layer_ffn_units = [HEADS] * LAYERS, [UNITS] * LAYERS
        config.embedding_rank = RANK
        return fresh(config, 1).train().to(DEVICE)


def material(rows: Path, folder: Path, precision: str, dropout: float) -> Material:
    """The rows of an Arrow file, to be trained on in `folder`."""
    framing = framing_of(load_tokenizer(locate(TEACHER)))
    return Material(folder, Encoded(rows), framing, precision, dropout)


class Contender(Protocol):
    """A module of this folder."""

    TITLE: str
    """One line for the table."""

    def precision(self, native: str) -> str:
        """What it computes in, where `DEVICE` computes `native` natively."""

    def train(self, material: Material) -> dict[str, float]:
        """One pass over the rows; returns what else is to be told, such as seconds before it."""


def contender(name: str) -> Contender:
    """The contender of a name in `NAMES`."""
    return import_module(f"tests.bench.contenders.{name}")  # type: ignore[return-value]
