"""The file that MLflow runs to serve a compressed model, stored with it as plain source.

It needs torch and transformers only: the checkpoint brings the code of its own model class.
"""

from typing import Any

import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel  # type: ignore[attr-defined]
from transformers import AutoModelForSequenceClassification, AutoTokenizer

BATCH = 32


class CompressedModel(PythonModel):  # type: ignore[misc]
    """A sequence classifier or regressor: columns `text` and, for pairs, `text_pair`."""

    def load_context(self, context: Any) -> None:
        """Load the checkpoint that was logged."""
        checkpoint = context.artifacts["checkpoint"]
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=True)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            checkpoint, trust_remote_code=True
        ).eval()

    @torch.inference_mode()
    def predict(
        self,
        context: Any,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """One row per input row: `label` and `score`, its probability; `score` alone for a scale.

        Raises ValueError when the column `text` is missing, or `text_pair` does not fit the model.
        """
        if "text" not in model_input.columns:
            raise ValueError(f"input must have the column text, got {list(model_input.columns)}")
        pairs = "text_pair" in model_input.columns and bool(model_input["text_pair"].notna().all())
        reads_pairs = getattr(self.model.config, "text_pair", None)
        if reads_pairs not in (None, pairs):
            need = "filled in" if reads_pairs else "left out"
            raise ValueError(f"input must have the column text_pair {need} for this model")
        rows: list[dict[str, Any]] = []
        for start in range(0, len(model_input), BATCH):
            part = model_input.iloc[start : start + BATCH]
            texts = [list(part["text"])]
            if pairs:
                texts.append(list(part["text_pair"]))
            encoded = self.tokenizer(
                *texts,
                padding=True,
                truncation=True,
                max_length=self.model.config.max_position_embeddings,
                return_tensors="pt",
            )
            logits = self.model(**encoded).logits.float()
            if logits.shape[1] == 1:
                rows += [{"score": score} for score in logits[:, 0].tolist()]
                continue
            scores, labels = logits.softmax(-1).max(-1)
            names = self.model.config.id2label
            rows += [
                {"label": names[label], "score": score}
                for label, score in zip(labels.tolist(), scores.tolist(), strict=True)
            ]
        return pd.DataFrame(rows)


set_model(CompressedModel())
