"""Exported models in the versions of transformers that people have, each with packages of its own.

Every version is installed into `.venv/versions`, where it stays; torch is that of this environment.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bare_site import link_site, run_bare
from transformers import AutoTokenizer

from rosita_core.compression.kept import Kept
from rosita_core.compression.surgery import prune
from rosita_core.export.checkpoint import export_checkpoint
from rosita_core.export.model_card import LOADS_IN, UNLISTED, CardFacts
from rosita_core.model.checkpoint import fresh, shape_of
from rosita_core.model.families import family_of
from rosita_core.model.locate import RANDOM_MODELS, locate, read_config
from rosita_core.model.modeling_rosita import RositaForSequenceClassification

pytestmark = pytest.mark.versions

LABELS = ("negative", "positive")
TEXTS = ["A quiet, moving film.", "dull", "the plot is thin but the actors carry it " * 3]
SECOND = ["It moves.", "no", "they do"]
ROOM = Path(sys.prefix) / "versions"

THERE = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import torch, transformers
from transformers import (
    AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline,
)
assert transformers.__version__ == sys.argv[3], transformers.__version__
texts, second = json.loads(sys.argv[4]), json.loads(sys.argv[5])
torch.set_num_threads(1)
for folder in sys.argv[6:]:
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    encoder = AutoModel.from_pretrained(folder, trust_remote_code=True)
    given = (texts, second) if model.config.text_pair else (texts,)
    batch = tokenizer(*given, padding=True, truncation=True, return_tensors="pt")
    # In float64: of weights as large as these, float32's rounding depends on the processor.
    model, encoder = model.double(), encoder.double()
    with torch.inference_mode():
        said = model.eval()(**batch, output_hidden_states=True, output_attentions=True)
        states = encoder.eval()(**batch).last_hidden_state
    assert torch.allclose(states, said.hidden_states[-1], rtol=0, atol=1e-10)
    assert len(said.attentions) == model.config.num_hidden_layers
    loss = model.train()(**batch, labels=torch.tensor([0, 1, 0])).loss
    loss.backward()
    assert all(one.grad is not None for one in model.classifier.parameters())
    classify = pipeline("text-classification", folder, trust_remote_code=True)
    asked = {"text": texts[0], "text_pair": second[0]} if model.config.text_pair else texts[0]
    answer = classify(asked)
    answer = answer[0] if isinstance(answer, list) else answer
    model.eval().float().save_pretrained(folder + "-again")
    again = AutoModelForSequenceClassification.from_pretrained(
        folder + "-again", trust_remote_code=True
    )
    with torch.inference_mode():
        repeated = again.eval().double()(**batch).logits
    assert torch.allclose(repeated, said.logits, rtol=0, atol=1e-10)
    print("SAID", json.dumps([batch["input_ids"].tolist(), said.logits.tolist(), answer]))
"""


def environment(version: str) -> Path:
    """The folder with one version of transformers and what it needs beside torch."""
    folder = ROOM / version
    done = folder / "complete"
    ROOM.mkdir(exist_ok=True)
    with (ROOM / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.is_file():
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade"]
            command += ["--target", str(folder), f"transformers=={version}"]
            subprocess.run(command, check=True)
            done.touch()
    return folder


@pytest.fixture(scope="module")
def torch_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link_site(tmp_path_factory.mktemp("site"), "torch")


def uneven(name: str) -> RositaForSequenceClassification:
    """A random model of a family, whose layers have kept other heads and units each."""
    values = read_config(name)
    with torch.random.fork_rng():
        config = family_of(values, name).config(values, len(LABELS))
        config.initializer_range = 0.3
        dense = fresh(config, 1).eval()
    shape = shape_of(dense.config)
    heads = tuple(torch.arange(1 + layer % count) for layer, count in enumerate(shape.layer_heads))
    units = tuple(torch.arange(5 + 3 * layer) for layer in range(shape.layers))
    return prune(dense, Kept(tuple(range(shape.layers)), heads, units, 7)).eval()


def facts(model: RositaForSequenceClassification, name: str, pair: bool) -> CardFacts:
    said: dict[str, Any] = {"task": "t", "teacher": name, "method": "rosita", "kd_setting": "4"}
    scores = dict.fromkeys(("score_name", "teacher_score", "student_score", "retention"))
    said |= {"recovered": "none", "teacher_shape": shape_of(model.config), "max_length": 32}
    return CardFacts(pair=pair, columns={}, seed=1, notes=(), listing=UNLISTED, **said, **scores)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, torch.Tensor]:
    """Exports of every family, of texts and of pairs, with what they say here."""
    found = {}
    for name, pair in product(RANDOM_MODELS, (False, True)):
        folder, model = tmp_path_factory.mktemp("exports") / name, uneven(name)
        export_checkpoint(model, locate(name), LABELS, facts(model, name, pair), folder)
        with torch.inference_mode():
            found[folder] = model.double()(**batch_of(folder, pair)).logits
    return found


def batch_of(folder: Path, pair: bool) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    given = (TEXTS, SECOND) if pair else (TEXTS,)
    return tokenizer(*given, padding=True, truncation=True, return_tensors="pt")


@pytest.mark.parametrize("version", LOADS_IN)
def test_they_say_the_same_there(
    version: str, exported: dict[Path, torch.Tensor], torch_site: Path, tmp_path: Path
) -> None:
    args = [str(environment(version)), str(torch_site), version, json.dumps(TEXTS)]
    args += [json.dumps(SECOND), *map(str, exported)]
    out, err, code = run_bare(THERE, args, tmp_path)
    assert code == 0, err
    answers = [line.removeprefix("SAID ") for line in out.splitlines() if line[:5] == "SAID "]
    for (folder, here), line in zip(exported.items(), answers, strict=True):
        pair = json.loads((folder / "config.json").read_text())["text_pair"]
        ids, logits, answer = json.loads(line)
        assert ids == batch_of(folder, pair)["input_ids"].tolist(), folder
        assert np.ptp(here[:, 0].numpy()) > 0.01
        assert np.abs(np.array(logits) - here.numpy()).max() < 1e-10, folder
        shares = here[0].softmax(-1)
        assert answer["label"] == LABELS[int(shares.argmax())], folder
        assert answer["score"] == pytest.approx(float(shares.max()), abs=1e-4), folder
