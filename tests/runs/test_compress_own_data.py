"""Compressions on files of one's own."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
from command_line import csv_file, recipe_file, rosita
from compressions import TINY, artifact, compressed
from safetensors.torch import load_file, save_file

from flows.cli.tables import show_comparison
from flows.engine.summary import comparison_rows
from tasks.store.artifacts import Store

pytestmark = pytest.mark.usefixtures("in_prefect")


@pytest.fixture
def home(tmp_path: Path, mlflow_tables: Path) -> Path:
    """A home in which nothing has run; MLflow's tables are there."""
    (tmp_path / "home").mkdir()
    shutil.copy(mlflow_tables, tmp_path / "home" / "mlflow.db")
    return tmp_path / "home"


WORDS = ["the", "film", "was", "slow", "dull", "quiet", "bright", "moving", "funny", "story", "old"]


def sentences(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=8)) for _ in range(count)]


def logged(home: Path) -> Path:
    """Where MLflow keeps the model of the only run of a home."""
    [place] = (home / "mlartifacts").rglob("MLmodel")
    return place.parent


def own_recipe(folder: Path, **data: Any) -> str:
    """Smoke's sizes on own data."""
    section = {"source": "files", "select_fraction": 0.2, "limit_rows": None} | data
    return recipe_file(folder, {"base": "smoke", "task": "custom", "data": section})


def test_own_classes_of_single_texts(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = sentences(60, 1)
    rows = [f"{text},{('bad', 'fair', 'good')[i % 3]}" for i, text in enumerate(texts)]
    train = csv_file(tmp_path / "train.csv", "sentence,verdict", rows[:48])
    # Two rows of train, too: one as it is, one in capitals.
    shared = [rows[3], f"{texts[4].upper()}  ,fair "]
    dev = csv_file(tmp_path / "dev.csv", "sentence,verdict", [*rows[48:58], *shared])
    columns = {"text_a": "sentence", "label": "verdict"}
    data = {"train": train, "dev": dev, "dev_rows": None, "columns": columns}
    recipe = own_recipe(tmp_path, **data, score="macro_f1")
    changes = ("kd_setting=1", "width.max_length=9", *TINY)
    summary = compressed(home, recipe, *changes)
    assert (summary["task"], summary["score_name"]) == ("custom", "macro_f1")
    for model in (summary["teacher"], summary["student"]):
        assert model["score"] == model["metrics"]["macro_f1"]
        assert set(model["metrics"]) == {"accuracy", "macro_f1", "mcc"}
    assert summary["retention"] == summary["student"]["score"] / summary["teacher"]["score"]
    assert summary["dev_rows"] == summary["rows"]["dev"] == 12
    assert (summary["rows"]["dev_in_train"], summary["rows"]["dev_in_select"]) == (2, 0)
    show_comparison(summary, tmp_path / "summary.json")
    said = " ".join(capsys.readouterr().out.split())
    assert "Scores on 12 dev rows (they chose nothing);" in said
    metrics = [said.index(f"dev {name} ") for name in ("macro_f1", "accuracy", "mcc")]
    assert metrics == sorted(metrics)
    assert "% of the macro_f1." in said
    # Rows are the same by whatever score; what chooses checkpoints is not.
    sets = [f"--set={change}" for change in (*changes, "data.score=accuracy")]
    planned = rosita("plan", "--recipe", recipe, *sets, "--json", home=home).document["stages"]
    status = {stage["name"]: (stage["status"], stage["reason"]) for stage in planned}
    assert status["data"] == ("cached", "")
    assert status["teacher"][0] == "to run"
    assert "config.scoring.score macro_f1 -> accuracy" in status["teacher"][1]
    cuts = [(cut["max_length"], cut["shares"]["dev"]) for cut in summary["cuts"]]
    assert cuts == [(64, 0.0), (9, 1.0)]
    assert "teacher.max_length 64 cuts no row." in said
    assert "width.max_length 9 cuts 100.0 % of train, 100.0 % of select and 100.0 % of dev" in said
    assert "2 of 12 dev rows have a text that is in train, too." in said
    config = json.loads(Path(summary["export_dir"], "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "bad", "1": "fair", "2": "good"}
    assert summary["registered_model"]["name"] == "rosita-mine"
    # Columns are those of the recipe, unless an option names another.
    scored = ("evaluate", "--input", dev, "--max-length", "9", "--json")
    metrics = rosita(*scored, home=home).document["metrics"]
    assert metrics["accuracy"] == pytest.approx(summary["student"]["metrics"]["accuracy"])
    assert rosita("predict", "--input", dev, "--json", home=home).document["rows"] == 12
    other = rosita("predict", "--input", dev, "--text-a", "verdict", home=home)
    assert (other.code, len(other.stdout.splitlines())) == (0, 12)
    renamed = csv_file(tmp_path / "renamed.csv", "sentence,stars", rows[:3])
    done = rosita("evaluate", "--input", renamed, home=home)
    assert done.code == 2
    assert done.stderr.splitlines()[-1] == (
        f"rosita: label must name one column of {renamed} (sentence, stars), got 'verdict' "
        "(no such column)"
    )
    assert rosita("evaluate", "--input", renamed, "--label", "stars", home=home).code == 0


@pytest.fixture(scope="module")
def rated_home(tmp_path_factory: pytest.TempPathFactory, mlflow_tables: Path) -> Path:
    """One for all compressions of sentences with numbers, beside their files."""
    home = tmp_path_factory.mktemp("rated") / "home"
    home.mkdir()
    shutil.copy(mlflow_tables, home / "mlflow.db")
    return home


def rated(home: Path, factor: float) -> str:
    """A recipe for sentences with numbers, the same in another unit."""
    rows = [f"{text},{factor * (text.count('o') - 3)}" for text in sentences(60, 1)]
    train = csv_file(home.parent / "train.csv", "sentence,stars", rows)
    columns = {"text_a": "sentence", "label": "stars"}
    data = {"train": train, "dev_rows": 12, "columns": columns, "kind": "regression"}
    return own_recipe(home.parent, **data)


def weights(home: Path, summary: dict[str, Any], stage: str) -> dict[str, torch.Tensor]:
    return load_file(Store(home).path(artifact(summary, stage)) / "model.safetensors")


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        (("kd_setting=4", "width.epochs=2"), "width"),
        (("kd_setting=none",), "one-step"),
        (("kd_setting=2", "kd.cache=none"), "one-step"),
        (("method=taylor", "compress.recover=kd"), "recover"),
        (("method=stat", "compress.recover=labels"), "recover"),
    ],
)
def test_the_unit_of_numbers_decides_nothing(
    changes: tuple[str, ...], last: str, rated_home: Path
) -> None:
    """64 times the labels is 64 times the answers: by a power of two no bit is rounded."""
    models, scores = [], []
    for factor in (1, 64):
        summary = compressed(rated_home, rated(rated_home, factor), *changes, *TINY)
        scores.append([summary[who]["score"] for who in ("teacher", "student")])
        model = weights(rated_home, summary, last)
        for part in ("classifier.weight", "classifier.bias"):
            model[part] /= factor
        models.append(model)
    assert scores[0] == scores[1]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


@pytest.fixture(scope="module")
def teachers(rated_home: Path) -> list[str]:
    """Folders of one teacher of numbers: in labels, and with 1,024 times the answers."""
    summary = compressed(rated_home, rated(rated_home, 1), "kd_setting=none", *TINY)
    folders = []
    for factor in (1, 1024):
        folder = rated_home.parent / f"times-{factor}"
        shutil.copytree(Store(rated_home).path(artifact(summary, "teacher")), folder)
        words = Store(rated_home).path(artifact(summary, "data")) / "tokenizer"
        shutil.copytree(words, folder, dirs_exist_ok=True)
        own = load_file(folder / "model.safetensors")
        for part in ("classifier.weight", "classifier.bias"):
            own[part] *= factor
        save_file(own, folder / "model.safetensors", {"format": "pt"})
        folders.append(str(folder))
    return folders


@pytest.mark.parametrize(
    "changes",
    [
        ("kd_setting=1", "teacher.epochs=0"),
        ("kd_setting=3", "teacher.epochs=0"),
        ("method=taylor", "teacher.epochs=0"),
        ("method=stat", "teacher.epochs=0", "compress.recover=kd"),
        ("method=stat", "teacher.epochs=0", "compress.recover=labels"),
        ("kd_setting=none", "teacher.epochs=1"),
    ],
)
def test_a_teacher_of_numbers_in_a_unit_of_its_own(
    changes: tuple[str, ...], teachers: list[str], rated_home: Path
) -> None:
    """Taken as it is it stays so; whatever comes of it says the same, in labels."""
    made = [
        compressed(
            rated_home,
            rated(rated_home, 1),
            *(f"teacher.model={folder}", "gate.weak_teacher=warn", *changes, *TINY),
        )
        for folder in teachers
    ]
    for who in ("teacher", "student"):
        scores = [summary[who]["score"] for summary in made]
        assert scores[0] == pytest.approx(scores[1], abs=2e-3)
        # Errors are of numbers in labels.
        explained = [summary[who]["metrics"]["r2"] for summary in made]
        assert explained[0] == pytest.approx(explained[1], abs=0.02)
    if "teacher.epochs=0" in changes:
        for summary, folder in zip(made, teachers, strict=True):
            own = load_file(Path(folder) / "model.safetensors")
            kept = weights(rated_home, summary, "teacher")
            assert all(torch.equal(kept[name], own[name]) for name in own)
    asked = ("predict", "--input", str(rated_home.parent / "train.csv"), "--json", "--model")
    answered = [
        rosita(*asked, summary["run_id"], home=rated_home).document["predictions"]
        for summary in made
    ]
    numbers = [[row["score"] for row in answers] for answers in answered]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.02)


def test_own_numbers_of_pairs(home: Path, tmp_path: Path) -> None:
    pairs = zip(sentences(60, 2), sentences(60, 3), strict=True)
    rows = [f"{a},{b},{len(set(a.split()) & set(b.split()))}" for a, b in pairs]
    train = csv_file(tmp_path / "pairs.csv", "one,two,overlap", rows)
    columns = {"text_a": "one", "text_b": "two", "label": "overlap"}
    recipe = own_recipe(tmp_path, train=train, dev_rows=12, columns=columns, kind="regression")
    # Letters of a name that MLflow takes for no model.
    summary = compressed(home, recipe, "name=it's 5%.v2", *TINY)
    assert summary["registered_model"]["name"] == "rosita-it-s 5--v2"
    assert summary["score_name"] == "pearson_spearman"
    metrics = {"pearson", "spearman", "pearson_spearman", "r2"}
    assert set(summary["student"]["metrics"]) == metrics
    # It can be negative: there is no share of it to keep.
    summary["teacher"]["metrics"]["r2"] = 0.7
    [explained] = [row for row in comparison_rows(summary) if "dev r2" in row.values()]
    assert list(explained.values())[-1] == ""
    config = json.loads(Path(summary["export_dir"], "config.json").read_text(encoding="utf-8"))
    assert config["problem_type"] == "regression"
    done = rosita("predict", "--input", train, "--json", home=home)
    assert [one.keys() for one in done.document["predictions"]] == [{"score"}] * 60
    assert rosita("evaluate", "--input", train, "--json", home=home).document["rows"] == 60
    example = mlflow.pyfunc.load_model(str(logged(home))).input_example.to_dict("records")
    assert example[0].keys() == {"text", "text_b"}
    assert f"{example[0]['text']},{example[0]['text_b']}," in Path(train).read_text()
    frame = pd.read_parquet(Store(home).path(artifact(summary, "augment")) / "augmented.parquet")
    assert {"text_a", "text_b", "label"} < set(frame.columns)
