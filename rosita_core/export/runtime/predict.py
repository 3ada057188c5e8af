"""Classify texts from standard input, one a line; for a model of pairs, two with a tab between.

    python predict.py < texts.txt

It needs onnxruntime, tokenizers and numpy. For each line it prints a class and its probability,
with a tab between, or the number of a regression. In Python: `Classifier(folder).predict(texts)`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

BATCH = 32
Text = str | tuple[str, str]
Answer = tuple[str, float] | tuple[float]


class Classifier:
    """The model in `folder`, which says by itself what it reads and what its classes are called."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.pair = config["text_pair"]
        self.regression = config["problem_type"] == "regression"
        self.classes = [config["id2label"][str(index)] for index in range(len(config["id2label"]))]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(
            config["max_position_embeddings"], direction=said.get("truncation_side", "right")
        )
        self.types = "token_type_ids" in said["model_input_names"]
        pad = said["pad_token"]
        token = pad if isinstance(pad, str) else pad["content"]
        self.tokenizer.enable_padding(pad_id=self.tokenizer.token_to_id(token), pad_token=token)
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
        )

    def logits(self, texts: Sequence[Text]) -> np.ndarray:
        """Logits (texts, outputs) of texts, or of pairs of them, computed at once."""
        rows = self.tokenizer.encode_batch(texts)
        inputs = {
            "input_ids": [row.ids for row in rows],
            "attention_mask": [row.attention_mask for row in rows],
            "token_type_ids": [row.type_ids if self.types else [0] * len(row) for row in rows],
        }
        arrays = {name: np.array(values, np.int64) for name, values in inputs.items()}
        (logits,) = self.session.run(["logits"], arrays)
        return np.asarray(logits, np.float64)

    def predict(self, texts: Iterable[Text]) -> Iterator[Answer]:
        """A class and its probability for each text or pair, or a number of a regression.

        Where reading the texts ends with a ValueError, those before it are answered first.
        """
        left, batch, wrong = iter(texts), list[Text](), None
        while wrong is None:
            batch = []
            try:
                for text in islice(left, BATCH):
                    batch.append(text)
            except ValueError as error:
                wrong = error
            if batch:
                yield from self._answers(self.logits(batch))
            elif wrong is None:
                return
        raise wrong

    def _answers(self, logits: np.ndarray) -> Iterator[Answer]:
        if self.regression:
            yield from ((float(row[0]),) for row in logits)
            return
        exponents = np.exp(logits - logits.max(1, keepdims=True))
        shares = exponents / exponents.sum(1, keepdims=True)
        yield from ((self.classes[row.argmax()], float(row.max())) for row in shares)

    def read(self, lines: Iterable[str]) -> Iterator[Text]:
        """The texts, or pairs of texts, of lines."""
        for number, line in enumerate(lines, start=1):
            parts = line.rstrip("\r\n").split("\t") if self.pair else [line.rstrip("\r\n")]
            if len(parts) != 1 + self.pair or not all(part.strip() for part in parts):
                need = "two texts with a tab between" if self.pair else "a text"
                raise ValueError(f"line {number} must hold {need}, got {line.rstrip()!r}")
            yield (parts[0], parts[1]) if self.pair else parts[0]


def decoded(lines: Iterable[bytes]) -> Iterator[str]:
    """Lines of UTF-8, the first perhaps with a byte order mark."""
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            byte = f"0x{error.object[error.start]:02x}"
            raise ValueError(f"line {number} must be UTF-8, got the byte {byte}") from None


def main() -> None:
    """From standard input to standard output."""
    model = Classifier(Path(__file__).parent)
    try:
        for answer in model.predict(model.read(decoded(sys.stdin.buffer))):
            print("\t".join(f"{part:.4f}" if isinstance(part, float) else part for part in answer))
    except ValueError as error:
        sys.exit(f"predict.py: {error}")


if __name__ == "__main__":
    main()
