"""Teachers of other families, on pairs of one's own: taken as they are, compressed and used."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import csv_file, recipe_file, rosita
from compressions import TINY, artifact, compressed
from transformers import (
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import rosita_core.model.register  # noqa: F401
from rosita_core.model.checkpoint import load
from rosita_core.model.locate import locate
from tasks.store.artifacts import Store

pytestmark = pytest.mark.usefixtures("in_prefect")

SIZES = {
    "vocab_size": 30522,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 130,
}
DISTILBERT = {"dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 32}
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "roberta": (
        RobertaConfig,
        RobertaForSequenceClassification,
        SIZES | {"vocab_size": 1500, "type_vocab_size": 1},
        "tiny-roberta",
    ),
    "distilbert": (
        DistilBertConfig,
        DistilBertForSequenceClassification,
        DISTILBERT | {"max_position_embeddings": 130},
        "minilm-l6",
    ),
    "electra": (
        ElectraConfig,
        ElectraForSequenceClassification,
        SIZES | {"embedding_size": 8},
        "minilm-l6",
    ),
}


@pytest.fixture
def home(tmp_path: Path, mlflow_tables: Path) -> Path:
    """A home in which nothing has run; MLflow's tables are there."""
    (tmp_path / "home").mkdir()
    shutil.copy(mlflow_tables, tmp_path / "home" / "mlflow.db")
    return tmp_path / "home"


def teacher(family: str, folder: Path) -> Path:
    """A classifier of random weights, with a tokenizer."""
    config, model, sizes, tokenizer = FAMILIES[family]
    names = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    torch.manual_seed(0)
    model(config(**sizes, **names)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(locate(tokenizer) / name, folder / name)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_teacher_of_pairs_goes_through_every_stage_and_is_used(
    family: str, home: Path, tmp_path: Path
) -> None:
    rows = [f"is it story {i},it is story {i % 7},{('no', 'yes')[i % 2]}" for i in range(60)]
    columns = {"text_a": "a", "text_b": "b", "label": "label"}
    train = csv_file(tmp_path / "rows.csv", "a,b,label", rows)
    data = {"source": "files", "train": train, "dev_rows": 12, "limit_rows": None}
    sections = {
        "teacher": {"model": str(teacher(family, tmp_path / "teacher")), "epochs": 0},
        "depth": {"keep_layers": 1},
        "width": {"keep_heads": 2, "ffn_units": 8, "embedding_rank": 4},
    }
    recipe = recipe_file(
        tmp_path,
        {"base": "smoke", "task": "custom", "data": data | {"columns": columns}, **sections},
    )
    summary = compressed(home, recipe, *TINY)
    assert summary["student"]["shape"] == "a2_l1_f8_e4"
    folder = Store(home).path(artifact(summary, "export"))
    assert json.loads((folder / "config.json").read_text())["text_pair"] is True
    # The command frames a pair as the tokenizer does, whatever kind it is.
    out = tmp_path / "answer.jsonl"
    texts = ("is it story 3", "--text-b", "it is story 3")
    done = rosita("predict", *texts, "--output", str(out), home=home)
    assert done.code == 0, done.stderr
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer("is it story 3", "it is story 3", return_tensors="pt")
    with torch.no_grad():
        logits = load(folder)(
            encoded["input_ids"], encoded["attention_mask"], types(encoded)
        ).logits
    answer = json.loads(out.read_text())
    assert answer["probability"] == pytest.approx(float(logits.softmax(-1).max()), abs=1e-4)
    if family == "distilbert":
        check_next_steps(home, tmp_path, "compress", "--recipe", recipe, *sets(TINY))


def sets(changes: tuple[str, ...]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def check_next_steps(home: Path, folder: Path, *command: str) -> None:
    """What a run says to do next works as it is printed, also for a model of pairs."""
    done = rosita(*command, home=home)
    assert done.code == 0, done.stderr
    printed = done.stdout.partition("next:")[2].splitlines()
    typed = [shlex.split(line, comments=True) for line in printed if line.startswith("  rosita ")]
    assert [words[1] for words in typed] == ["predict", "export", "benchmark", "ui"]
    predict, export = typed[:2]
    assert "--text-b" in predict
    for words in (predict, [*export[:-1], str(folder / export[-1])]):
        done = rosita(*words[1:], home=home)
        assert done.code == 0, done.stderr


def types(encoded: Any) -> torch.Tensor | None:
    found: torch.Tensor | None = encoded.get("token_type_ids")
    return found


def test_the_plan_of_another_architecture_names_the_families(home: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "mobilebert"}))
    change = f"--set=teacher.model={model}"
    for command in ("plan", "compress"):
        done = rosita(command, "--recipe", "smoke", change, home=home)
        assert done.code == 2
        assert "must be of an architecture in bert, camembert, distilbert, electra" in done.stderr
        assert "got 'mobilebert'" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("recipe", "method"),
    [
        ("smoke-roberta", "fisher-mask-search"),
        ("smoke-distilbert", "stat"),
        ("smoke-electra", "attribution"),
    ],
)
def test_other_methods_compress_other_encoders(recipe: str, method: str, home: Path) -> None:
    formats = "export.formats=[hugging-face, onnx]"
    summary = compressed(home, recipe, f"method={method}", "teacher.epochs=0.1", formats)
    names = [stage["name"] for stage in summary["stages"]]
    assert names == ["data", "teacher", "measure", "cut", "assess", "export"]
    teacher, student = summary["teacher"], summary["student"]
    assert student["params_encoder"] <= teacher["params_encoder"] // 2
    # Its graph says what the model says, or it would be left out.
    assert set(summary["formats"]) == {"hugging-face", "onnx"}
    assert "left_out" not in summary["formats"]["onnx"]
    done = rosita("predict", "A film to remember.", home=home)
    assert done.code == 0, done.stderr
