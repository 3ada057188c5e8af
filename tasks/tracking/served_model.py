"""The file that MLflow runs to serve a compressed model, stored with it as plain source.

A checkpoint needs torch and transformers, and brings the code of its own model class. A graph needs
onnxruntime, tokenizers and numpy, and brings the page that runs it.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel  # type: ignore[attr-defined]

BATCH = 32
GRAPH, RUNTIME = "model.onnx", "predict.py"
TEXT, TEXT_B = "text", "text_b"
ANSWERS = {1: ("score",), 2: ("prediction", "probability")}
"""What the parts of an answer are called, by their number; as `rosita predict --json` does."""

Text = str | tuple[str, str]


class CompressedModel(PythonModel):  # type: ignore[misc]
    """A sequence classifier or regressor: columns `text` and, for pairs, `text_b`."""

    def load_context(self, context: Any) -> None:
        """Load what was logged."""
        folder = Path(context.artifacts["checkpoint"])
        self.model = _graph(folder) if (folder / GRAPH).is_file() else _Checkpoint(folder)

    def predict(
        self,
        context: Any,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """One row per input row: `prediction` and its `probability`; `score` alone for a scale.

        Raises ValueError when the column `text` is missing, `text_b` does not fit the model, or a
        text is empty.
        """
        texts = _texts(model_input, self.model.pair)
        answers = self.model.predict(texts)
        return pd.DataFrame([dict(zip(ANSWERS[len(one)], one, strict=True)) for one in answers])


class _Checkpoint:
    """A checkpoint behind the two names that the page of a graph has."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            folder, trust_remote_code=True
        ).eval()
        self.pair = getattr(self.model.config, "text_pair", None)
        """None where nobody noted it."""

    def predict(self, texts: Sequence[Text]) -> Iterator[tuple[str, float] | tuple[float]]:
        """A class and its probability for each text or pair, or a number of a regression."""
        import torch

        names = self.model.config.id2label
        for start in range(0, len(texts), BATCH):
            part = texts[start : start + BATCH]
            both = zip(*part, strict=True) if isinstance(part[0], tuple) else [part]
            encoded = self.tokenizer(
                *(list(column) for column in both),
                padding=True,
                truncation=True,
                max_length=self.model.config.max_position_embeddings,
                return_tensors="pt",
            )
            with torch.inference_mode():
                logits = self.model(**encoded).logits.float()
            if logits.shape[1] == 1:
                yield from ((score,) for score in logits[:, 0].tolist())
                continue
            scores, labels = logits.softmax(-1).max(-1)
            found = zip(labels.tolist(), scores.tolist(), strict=True)
            yield from ((names[label], score) for label, score in found)


def _graph(folder: Path) -> Any:
    """The `Classifier` of the page beside a graph, which was logged with it."""
    spec = importlib.util.spec_from_file_location("rosita_runtime", folder / RUNTIME)
    assert spec is not None and spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    return page.Classifier(folder)


def _texts(frame: pd.DataFrame, reads_pairs: bool | None) -> list[Text]:
    if TEXT not in frame.columns:
        raise ValueError(f"input must have the column {TEXT}, got {list(frame.columns)}")
    pairs = TEXT_B in frame.columns and bool(frame[TEXT_B].notna().all())
    if reads_pairs not in (None, pairs):
        need = "filled in" if reads_pairs else "left out"
        raise ValueError(f"input must have the column {TEXT_B} {need} for this model")
    for column in (TEXT, TEXT_B) if pairs else (TEXT,):
        for number, text in enumerate(frame[column], start=1):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(
                    f"{column} must be a text that is not empty, got {text!r} in row {number}"
                )
    return list(zip(frame[TEXT], frame[TEXT_B], strict=True)) if pairs else list(frame[TEXT])


set_model(CompressedModel())
