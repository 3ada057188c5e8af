"""Tiny seeded models, a WordPiece tokenizer of 64 entries, and encoded rows of its words."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from small_trainings import DISTILLATION, TRAINING
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from rosita_core.data.encoding import Encoded, encode
from rosita_core.data.framing import framing_of
from rosita_core.distillation.objectives.predictions import Predictions
from rosita_core.distillation.objectives.states import States
from rosita_core.measuring.score import Scoring
from rosita_core.model.checkpoint import fresh
from rosita_core.model.modeling_rosita import RositaConfig
from rosita_core.model.pretrained import load_pretrained
from rosita_core.training.checkpoints import NoCheckpoints
from rosita_core.training.placement import Placement
from rosita_core.training.run import TrainingRun

torch.set_num_threads(1)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["good", "bad", *(f"w{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
PIECES = ["##s", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
VOCABULARY = (SPECIAL + WORDS + PIECES + ["the", "of", "and", ".", ","])[:64]
CPU = Placement(device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def placement():
    return CPU


@pytest.fixture(scope="session")
def run_of(framing):
    """A factory of training runs on the CPU; what they do not name is empty or silent."""

    def make(rows, selection=None, report=None, checkpoints=None, placement=CPU):
        return TrainingRun(
            rows,
            rows if selection is None else selection,
            framing,
            placement,
            report or (lambda _: None),
            checkpoints or NoCheckpoints(),
        )

    return make


@pytest.fixture(scope="session")
def tokenizer():
    return BertTokenizerFast(vocab={piece: index for index, piece in enumerate(VOCABULARY)})


@pytest.fixture(scope="session")
def framing(tokenizer):
    return framing_of(tokenizer)


@pytest.fixture(scope="session")
def bert_config():
    """Two layers, hidden 16, four heads of size 4, vocabulary 64."""

    def make(**changes):
        sizes = {
            "vocab_size": 64,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 32,
            "max_position_embeddings": 32,
            # Large weights, so that heads and units differ in what they do.
            "initializer_range": 0.3,
        }
        return BertConfig(**(sizes | changes))

    return make


@pytest.fixture(scope="session")
def bert(bert_config):
    """A factory of BertForSequenceClassification in eval mode, drawn from a seed."""

    def make(seed=0, **changes):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = BertForSequenceClassification(bert_config(**changes)).eval()
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if name.endswith("bias"):  # zero at the start, which would hide mistakes
                        parameter.normal_(0, 0.1)
        return model

    return make


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """The same function as a model of transformers: written by it, read as a teacher is."""

    def make(source):
        folder = tmp_path_factory.mktemp("bert")
        source.save_pretrained(folder)
        return load_pretrained(folder, source.config.num_labels, seed=0)

    return make


@pytest.fixture(scope="session")
def tiny(bert, converted):
    """A factory of the same models, converted."""

    def make(seed=0, **changes):
        return converted(bert(seed, **changes))

    return make


@pytest.fixture(scope="session")
def sized():
    """A factory of models with given heads and units per layer; hidden 16, head size 4."""

    def make(layer_heads, layer_ffn_units, embedding_rank=None, seed=0, **changes):
        sizes = {
            "vocab_size": 64,
            "hidden_size": 16,
            "head_size": 4,
            "layer_heads": list(layer_heads),
            "layer_ffn_units": list(layer_ffn_units),
            "embedding_rank": embedding_rank,
            "max_position_embeddings": 32,
            "initializer_range": 0.3,
            "problem_type": "single_label_classification",
        }
        model = fresh(RositaConfig(**(sizes | changes)), seed)
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):  # zero at the start, which would hide mistakes
                    parameter.normal_(0, 0.1, generator=random)
        return model

    return make


@pytest.fixture
def rows(tmp_path, tokenizer):
    """A factory of encoded rows: a few random words each; the label says whether "good" is there.

    Regression labels count the good words; pairs have a second sentence.
    """
    made = iter(range(1000))

    def make(count, seed=0, pair=False, regression=False, length=None, long=12):
        random = np.random.default_rng(seed)

        def sentence(good):
            size = length or int(random.integers(2, long))
            words = list(random.choice(WORDS[1:], size))
            words[int(random.integers(0, size))] = "good" if good else "bad"
            return " ".join(words)

        goods = random.integers(0, 2, count)
        goods[:2] = (0, 1)
        frame = pd.DataFrame({"text_a": [sentence(good) for good in goods], "label": goods})
        if pair:
            frame["text_b"] = [sentence(0) for _ in goods]
        if regression:
            frame["label"] = frame["label"].astype("float64")
        path = tmp_path / f"rows-{next(made)}.arrow"
        encode([frame], tokenizer, path)
        return Encoded(path)

    return make


@pytest.fixture(scope="session")
def inputs():
    """A factory of random input ids, mask and token types (B, T); rows have unequal lengths."""

    def make(batch=5, tokens=9, seed=0, padded=True):
        random = torch.Generator().manual_seed(seed)
        ids = torch.randint(5, 64, (batch, tokens), generator=random)
        lengths = torch.randint(2, tokens + 1, (batch,), generator=random)
        lengths[0] = tokens
        mask = (torch.arange(tokens) < lengths[:, None]).long()
        if not padded:
            mask = torch.ones_like(mask)
        types = (torch.arange(tokens) >= lengths[:, None] // 2).long() * mask
        return ids * mask, mask, types

    return make


@pytest.fixture(scope="session")
def training():
    """A factory of training settings: one epoch of constant rate, the last weights returned."""
    return lambda **changes: replace(TRAINING, **changes)


@pytest.fixture(scope="session")
def distillation():
    """A factory of distillation settings: predictions and hidden states, no fidelity switch."""

    def make(hidden=True, temperature=1.0, average_over_classes=False, on_padding=False, **changes):
        losses = (Predictions(temperature, average_over_classes), States(on_padding))
        return replace(DISTILLATION, losses=losses if hidden else losses[:1], **changes)

    return make


@pytest.fixture(scope="session")
def scoring():
    base = Scoring(
        metrics=("accuracy",), score="accuracy", regression=False, batch_size=8, max_length=16
    )
    return lambda **changes: replace(base, **changes)


@pytest.fixture(scope="session")
def same_weights():
    """Whether two models have the same names, shapes and bits."""

    def compare(a, b):
        left, right = a.state_dict(), b.state_dict()
        return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)

    return compare


@pytest.fixture(scope="session")
def snapshot():
    """Everything of a model that a kernel must not change."""

    def take(model):
        return (
            {name: tensor.clone() for name, tensor in model.state_dict().items()},
            {name: p.requires_grad for name, p in model.named_parameters()},
            [p.grad is None for p in model.parameters()],
            model.training,
            model.config.to_dict(),
        )

    def unchanged(model, before):
        now = take(model)
        weights = all(torch.equal(now[0][name], before[0][name]) for name in before[0])
        return weights and now[0].keys() == before[0].keys() and now[1:] == before[1:]

    take.unchanged = unchanged
    return take
