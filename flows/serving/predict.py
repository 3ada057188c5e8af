"""A compressed model on texts: reading them and predicting in batches."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from flows.serving import PREDICTION_BATCH
from rosita_core.class_names import is_blank
from rosita_core.data.encoding import Encoded, encode
from rosita_core.data.framing import check_tokenizer, framing_of, load_tokenizer
from rosita_core.data.table import split_lines
from rosita_core.export import CLASSES, GRAPH
from rosita_core.export.graph import GraphClassifier
from rosita_core.measuring.score import predict_logits
from rosita_core.model.checkpoint import placed
from rosita_core.model.classifier import Classifier
from rosita_core.model.labels import check_names, class_names
from rosita_core.model.locate import TOKENIZERS, config_of, has_tokenizer
from rosita_core.model.pretrained import load_pretrained
from rosita_core.model.weights import INDEX, SINGLE_FILE, Weights, check_classifier, check_weights
from rosita_core.training.placement import Placement
from tasks.host.hardware import ResolvedNumerics

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

LABEL, PROBABILITY, SCORE = "prediction", "probability", "score"
WEIGHT_FILES = (SINGLE_FILE, INDEX)
# The classifier of a checkpoint is never drawn here; loading asks for a seed all the same.
UNUSED_SEED = 0
SHORTEST = 4  # tokens that a text is cut to at most


@dataclass(frozen=True)
class Predictor:
    """A model that is ready to predict.

    Attributes:
        model: in eval mode, on its device; a graph of ONNX is computed on the CPU.
        tokenizer: the one of its checkpoint.
        labels: class names in index order; empty for regression.
        numerics: device and precision.
        pair: whether it reads two texts; None where nobody noted it.
        classes: what the data that it was trained on calls the labels, where it has other names.
    """

    model: Classifier
    tokenizer: Any
    labels: tuple[str, ...]
    numerics: ResolvedNumerics
    pair: bool | None
    classes: tuple[str, ...] = ()

    def predict(
        self,
        texts: Sequence[str],
        texts_b: Sequence[str] | None = None,
        *,
        batch_size: int = PREDICTION_BATCH,
        max_length: int | None = None,
    ) -> pd.DataFrame:
        """A row per text: `prediction` and its `probability`, or `score` for a regression.

        Args:
            texts: what to classify.
            texts_b: the second text of each pair, for a model of pairs.
            batch_size: rows at a time.
            max_length: tokens per sequence; by default what the model can read.

        Raises:
            ValueError: where the texts do not fit the model or each other, or one is empty.
        """
        frame = texts_frame(
            _checked("texts", texts), None if texts_b is None else _checked("texts_b", texts_b)
        )
        if texts_b is not None and len(texts) != len(texts_b):
            raise ValueError(
                f"texts_b must be as many as texts, {len(texts):,}, got {len(texts_b):,}"
            )
        if self.pair is not None and self.pair != (texts_b is not None):
            needed = "given to a model of pairs" if self.pair else "left out for a model of texts"
            raise ValueError(f"texts_b must be {needed}, got {'none' if self.pair else 'some'}")
        return self.answer(frame, batch_size, max_length)

    def answer(self, texts: pd.DataFrame, batch_size: int, max_length: int | None) -> pd.DataFrame:
        """As `predict`, for columns `text_a` and, for pairs, `text_b`."""
        positions = self.model.config.max_position_embeddings
        length = positions if max_length is None else max_length
        return answers(predict(self, texts, batch_size, length), self.labels)


def load_predictor(folder: Path, numerics: ResolvedNumerics) -> Predictor:
    """The classifier in `folder`, with its tokenizer. No code from the folder is run.

    Args:
        folder: a checkpoint directory.
        numerics: device, precision and threads; the threads are those of the process from then on.

    Raises:
        ValueError: where the folder has no weights, no tokenizer or no classifier that is known.
    """
    from transformers.utils import logging as transformers_logging

    # Else transformers warns that it does not know the kind of model that the tokenizer belongs to.
    import rosita_core.model.register  # noqa: F401

    transformers_logging.disable_progress_bar()
    config = config_of(folder)
    if not has_tokenizer(folder):
        raise ValueError(
            f"model must have a tokenizer ({', '.join(TOKENIZERS)}), got none in {folder}"
        )
    kinds = config.get("architectures") or []
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ValueError(
            f"model must be a sequence classifier, got {', '.join(kinds) or 'no architecture'} "
            f"in {folder}"
        )
    torch.set_num_threads(numerics.threads)
    # Where there are weights as well, nobody knows that the graph was made of them.
    if (folder / GRAPH).is_file() and not any((folder / name).is_file() for name in WEIGHT_FILES):
        numerics = replace(numerics, device="cpu", precision="fp32")
        model: Classifier = GraphClassifier(folder, numerics.threads)
    else:
        model = placed(load_classifier(folder), numerics.device).eval()
    if model.config.problem_type == "regression":
        labels: tuple[str, ...] = ()
    else:
        labels = class_names(config, str(folder))
    tokenizer = load_tokenizer(folder)
    classes = config.get(CLASSES) or []
    if classes and (not isinstance(classes, list) or len(classes) != len(labels)):
        raise ValueError(
            f"model must have {CLASSES} of a name for each of {len(labels)} classes, "
            f"got {classes!r:.80} in {folder}"
        )
    pair = model.config.text_pair
    return Predictor(model, tokenizer, labels, numerics, pair, tuple(map(str, classes)))


def load_classifier(folder: Path) -> RositaForSequenceClassification:
    """The model of a checkpoint with as many outputs as the checkpoint says, on the CPU.

    Raises:
        ValueError: where the directory is no checkpoint of a supported architecture.
    """
    return load_pretrained(folder, check_whole(folder).outputs, UNUSED_SEED)


def check_whole(folder: Path) -> Weights:
    """What a checkpoint has that is a whole classifier, each output with a name of its own.

    Raises:
        ValueError: where the directory is no such checkpoint of a supported architecture.
    """
    config = config_of(folder)
    names = class_names(config, str(folder))
    check_names(names, config, str(folder))
    weights = check_weights(folder, config, len(names))
    check_classifier(weights, len(names))
    return weights


def read_lines(raw: bytes) -> pd.DataFrame:
    """The texts of standard input, one a line, as a column `text_a`.

    Raises:
        ValueError: for text that is not UTF-8, an empty line, or no line at all.
    """
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"standard input must be UTF-8, got byte 0x{raw[error.start]:02x} in line {line}"
        ) from None
    lines = split_lines(text) if text else []
    if not lines:
        raise ValueError(
            "text must be given as an argument, with --input or on standard input, got none"
        )
    for number, words in enumerate(lines, start=1):
        if is_blank(words):
            raise ValueError(
                f"text must not be empty, got {words!r} in line {number} of standard input"
            )
    return texts_frame(lines, None)


def texts_frame(first: list[str], second: list[str] | None) -> pd.DataFrame:
    """Texts as columns `text_a` and, for pairs, `text_b`."""
    columns = {"text_a": pd.Series(first, dtype="str")}
    if second is not None:
        columns["text_b"] = pd.Series(second, dtype="str")
    return pd.DataFrame(columns)


def _checked(name: str, texts: Sequence[str]) -> list[str]:
    """The texts as a list; one text alone would be taken for a list of letters."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} must be a list of texts, got {texts!r:.60}")
    if not len(texts):
        raise ValueError(f"{name} must hold at least 1 text, got none")
    for number, text in enumerate(texts, start=1):
        if is_blank(text):
            raise ValueError(f"{name} must not be empty, got {text!r} as text {number}")
    return list(texts)


def predict(
    predictor: Predictor,
    texts: pd.DataFrame,
    batch_size: int,
    max_length: int,
) -> np.ndarray:
    """Logits (rows, outputs) of every row of `texts`, in its order.

    Args:
        predictor: the model.
        texts: columns `text_a` and, for pairs, `text_b`.
        batch_size: rows at a time.
        max_length: tokens per sequence; longer ones are cut.

    Raises:
        ValueError: where batch_size or max_length is out of bounds, or an answer is no number.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    config, tokenizer, pair = predictor.model.config, predictor.tokenizer, "text_b" in texts
    framing = framing_of(tokenizer)
    positions = config.max_position_embeddings
    least = max(SHORTEST, 1 + (framing.pair if pair else framing.single).special)
    if not least <= max_length <= positions:
        raise ValueError(
            f"max_length must be in [{least}, {positions}] for this model, got {max_length}"
        )
    check_tokenizer(tokenizer, config.vocab_size, config.type_vocab_size, pair)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.arrow"
        encode([texts.assign(label=0)], tokenizer, path)
        logits = predict_logits(
            predictor.model,
            Encoded(path),
            batch_size,
            max_length,
            framing,
            Placement(predictor.numerics.device, predictor.numerics.precision),
        )
    if len(wrong := np.flatnonzero(~np.isfinite(logits).all(axis=1))):
        raise ValueError(
            f"model must answer with finite numbers, got {logits[wrong[0]].tolist()} "
            f"for text {wrong[0] + 1}"
        )
    return logits


def answers(logits: np.ndarray, labels: tuple[str, ...]) -> pd.DataFrame:
    """What is predicted: `prediction` and its `probability`, or `score` for a regression.

    Args:
        logits: (rows, outputs).
        labels: class names in index order; empty for regression.
    """
    if not labels:
        return pd.DataFrame({SCORE: logits[:, 0].astype(float)})
    probabilities = torch.from_numpy(logits).double().softmax(-1).numpy()
    best = probabilities.argmax(1)
    return pd.DataFrame(
        {
            LABEL: pd.Series([labels[index] for index in best], dtype="str"),
            PROBABILITY: probabilities[np.arange(len(best)), best],
        }
    )
