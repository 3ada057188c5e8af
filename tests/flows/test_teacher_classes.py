"""Which output of a teacher is which class of the data, and what the export calls them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import csv_file, recipe_file, rosita
from refusals import refused
from transformers import BertConfig, BertForSequenceClassification

from flows.recipes.request import Request, check
from flows.recipes.settings import export_settings, student_settings, teacher_settings
from flows.recipes.shipped import load_recipe
from rosita_core.model.locate import locate

SIZES = {
    "vocab_size": 30522,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two classes under their default names."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    BertForSequenceClassification(BertConfig(**SIZES)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(locate("minilm-l6") / name, folder / name)
    return folder


def own(
    folder: Path, checkpoint: Path, names: Any, classes: tuple[str, str], **teacher: Any
) -> str:
    """A recipe that takes a teacher of these names as it is, on data of these classes."""
    model = folder / "model"
    shutil.copytree(checkpoint, model)
    config = json.loads((model / "config.json").read_text())
    if names is not None:
        config["id2label"] = {str(index): name for index, name in enumerate(names)}
        config["label2id"] = {name: index for index, name in enumerate(names)}
    (model / "config.json").write_text(json.dumps(config))
    rows = [f"a story of number {i},{classes[i % 2]}" for i in range(60)]
    train = csv_file(folder / "rows.csv", "text,label", rows)
    data = {"source": "files", "train": train, "dev_rows": 10, "limit_rows": None}
    sections = {
        "teacher": {"model": str(model), "epochs": 0, **teacher},
        "depth": {"keep_layers": 1},
        "width": {"keep_heads": 2, "ffn_units": 16, "embedding_rank": 8},
    }
    return recipe_file(folder, {"base": "smoke", "task": "custom", "data": data, **sections})


def looked_up(recipe: str, home: Path, *changes: str) -> Request:
    return check(load_recipe(recipe, changes), home)


def test_names_that_do_not_tell_are_refused_by_plan_and_compress(
    checkpoint: Path, tmp_path: Path
) -> None:
    recipe = own(tmp_path, checkpoint, None, ("positive", "negative"))
    for command in ("plan", "compress"):
        said = refused(tmp_path / "home", "--recipe", recipe, command=command)
        assert said == (
            "teacher.model must have the data's classes (negative, positive) to be used without "
            "training, got LABEL_0, LABEL_1; teacher.labels says which is which, "
            "as {LABEL_0: ...}"
        )
    written = "--set=teacher.labels={LABEL_0: positive, LABEL_1: negative}"
    done = rosita("plan", "--recipe", recipe, written, home=tmp_path / "home")
    assert done.code == 0, done.stderr


@pytest.mark.parametrize(
    ("names", "labels", "order"),
    [
        (("POSITIVE", "NEGATIVE"), None, (1, 0)),
        (("negative", "positive"), None, (0, 1)),
        (None, {"LABEL_0": "positive", "LABEL_1": "negative"}, (1, 0)),
        # A letter and its accent, or both in one; a mark that nobody sees.
        (("pose\u0301", "negative"), None, (1, 0)),
        (("posé\u200e", "negative"), None, (1, 0)),
    ],
)
def test_every_stage_that_loads_it_takes_its_outputs_in_the_datas_order(
    names: Any, labels: Any, order: tuple[int, ...], checkpoint: Path, tmp_path: Path
) -> None:
    first = "posé" if names and names[0].startswith("pos") else "positive"
    recipe = own(tmp_path, checkpoint, names, (first, "negative"), labels=labels)
    request = looked_up(recipe, tmp_path / "home")
    assert teacher_settings(request).pretrained.order == order
    assert student_settings(request).pretrained.order == order
    assert export_settings(request).labels == ("negative", first)


def test_numbers_are_exported_under_the_names_of_the_teacher(
    checkpoint: Path, tmp_path: Path
) -> None:
    recipe = own(tmp_path, checkpoint, ("no", "yes"), ("0", "1"))
    request = looked_up(recipe, tmp_path / "home")
    assert teacher_settings(request).pretrained.order == (0, 1)
    assert export_settings(request).labels == ("no", "yes")
    # By which their rows are scored later.
    assert export_settings(request).classes == ("0", "1")
    # What is trained on the numbers need not mean what its start did.
    trained = looked_up(recipe, tmp_path / "home", "teacher.epochs=1")
    assert export_settings(trained).labels == ("0", "1")
    assert export_settings(trained).classes == ()


def test_numbers_are_one_class_however_either_side_writes_them(
    checkpoint: Path, tmp_path: Path
) -> None:
    request = looked_up(own(tmp_path, checkpoint, ("1.0", "0.0"), ("0", "1")), tmp_path / "home")
    assert teacher_settings(request).pretrained.order == (1, 0)


@pytest.mark.parametrize("epochs", [0, 1])
def test_names_that_are_no_list_are_refused_before_any_compute(
    epochs: int, checkpoint: Path, tmp_path: Path
) -> None:
    recipe = own(tmp_path, checkpoint, None, ("positive", "negative"), epochs=epochs)
    path = tmp_path / "model" / "config.json"
    whole = json.loads(path.read_text())
    for wrong in ({"0": "a", "2": "b"}, ["a", "b"], 5, {"a": "x", "b": "y"}):
        path.write_text(json.dumps(whole | {"id2label": wrong}))
        said = refused(tmp_path / "home", "--recipe", recipe, command="plan")
        assert said.startswith("teacher.model must have an id2label from 0 on, got ")


def test_numbers_can_be_mapped_by_numbers(checkpoint: Path, tmp_path: Path) -> None:
    recipe = own(tmp_path, checkpoint, ("no", "yes"), ("1", "2"), labels={"no": 2, "yes": 1})
    request = looked_up(recipe, tmp_path / "home")
    assert teacher_settings(request).pretrained.order == (1, 0)
    assert export_settings(request).labels == ("yes", "no")


def test_training_decides_where_names_do_not(checkpoint: Path, tmp_path: Path) -> None:
    recipe = own(tmp_path, checkpoint, None, ("positive", "negative"), epochs=1)
    request = looked_up(recipe, tmp_path / "home")
    assert teacher_settings(request).pretrained.order == (0, 1)
    assert export_settings(request).labels == ("negative", "positive")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"LABEL_7": "positive"},
            "teacher.labels must map classes of the model (LABEL_0, LABEL_1)",
        ),
        ({"LABEL_0": "good"}, "teacher.labels must map to the data's classes (negative, positive)"),
        ("positive", "teacher.labels must be a map, got 'positive'"),
        ({"LABEL_0": True}, "teacher.labels must be text, got True"),
    ],
)
def test_a_wrong_map(labels: Any, message: str, checkpoint: Path, tmp_path: Path) -> None:
    recipe = own(tmp_path, checkpoint, None, ("positive", "negative"), labels=labels)
    assert message in refused(tmp_path / "home", "--recipe", recipe, command="plan")


def test_a_map_where_a_number_is_predicted(tmp_path: Path) -> None:
    rows = [f"film number {i},{i / 7}" for i in range(60)]
    train = csv_file(tmp_path / "numbers.csv", "text,label", rows)
    data = {"source": "files", "train": train, "dev_rows": 12, "kind": "regression"}
    labels = {"labels": {"LABEL_0": "positive"}}
    values = {"base": "smoke", "task": "custom", "data": data, "teacher": labels}
    said = refused(tmp_path / "home", "--recipe", recipe_file(tmp_path, values))
    message = "teacher.labels must be left out where a number is predicted, got LABEL_0: positive"
    assert message in said


def test_a_map_for_a_model_without_classes(tmp_path: Path) -> None:
    change = "--set=teacher.labels={LABEL_0: positive}"
    said = refused(tmp_path / "home", "--recipe", "smoke", change)
    assert "teacher.labels must be left out for a checkpoint without 2 classes, got none" in said
