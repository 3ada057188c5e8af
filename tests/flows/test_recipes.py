"""The shipped recipes: exact sizes, the paper's hyper-parameters, and recipes as files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import recipe_file, rosita

from flows.recipes.shipped import RECIPES, load_recipe
from rosita_core.model.locate import MINILM_L6, locate

ROSITA = Path(sys.executable).parent / "rosita"
LINEAR, CONSTANT, DECAY = ("linear", 0.1), ("constant", 0.0), ("linear", 0.0)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    done = rosita("recipes", "--json", home=tmp_path_factory.mktemp("empty") / "home")
    assert done.code == 0, done.stderr
    return {entry["name"]: entry for entry in done.document["recipes"]}


def test_every_recipe_is_listed(entries: dict[str, dict[str, Any]]) -> None:
    assert list(entries) == list(RECIPES)
    assert {"smoke", "demo", "minilm-custom", "minilm-sst2", "paper-cola", "paper-mnli"} <= set(
        entries
    )


def test_sizes_of_the_paper(entries: dict[str, dict[str, Any]]) -> None:
    sst2, mnli = entries["paper-sst2"], entries["paper-mnli"]
    assert sst2["teacher"]["params"] == 109_483_778
    assert sst2["student"]["params"] == 14_474_754
    assert sst2["student"]["shape"] == "a2_l8_f512_e128"
    assert sst2["student"]["params_embedding"] == 4_401_408
    assert sst2["student"]["params_encoder"] == 8 * 1_185_152
    assert sst2["student"]["params_head"] == 590_592 + 1_538
    assert mnli["student"]["params"] == 14_475_523


def test_recipes_reach_their_compression(entries: dict[str, dict[str, Any]]) -> None:
    for name, entry in entries.items():
        if not name.startswith("smoke"):
            assert entry["compression"] >= 7.5, name


# Per task: batch, length, copies; student; depth; last stage by KD setting. Rate, schedule with
# warm-up, epochs, pruning fraction, patience.
PAPER: dict[str, dict[str, Any]] = {
    "cola": {
        "size": (32, 64, 30),
        "student": (2e-5, LINEAR, 5),
        "depth": (1e-5, CONSTANT, 10, 0.2),
        "none": (2e-5, None, 20, None, None),
        "1": (5e-5, LINEAR, 50, None, 10),
        "2": (5e-5, LINEAR, 50, None, 10),
        "3": (1e-5, CONSTANT, 50, 0.1, 10),
        "4": (1e-5, CONSTANT, 50, 0.01, 10),
    },
    "sst2": {
        "size": (32, 64, 20),
        "student": (2e-5, LINEAR, 5),
        "depth": (2e-5, CONSTANT, 5, 0.5),
        "none": (2e-5, None, 5, None, None),
        "1": (5e-5, LINEAR, 10, None, None),
        "2": (5e-5, LINEAR, 10, None, None),
        "3": (1e-5, CONSTANT, 10, 0.1, None),
        "4": (1e-5, CONSTANT, 10, 0.01, None),
    },
    "qnli": {
        "size": (64, 128, 20),
        "student": (2e-5, LINEAR, 3),
        "depth": (3e-5, CONSTANT, 3, 0.2),
        "none": (2e-5, None, 5, None, None),
        "4": (3e-5, CONSTANT, 7, 0.1, None),
    },
    "qqp": {
        "size": (64, 128, 10),
        "student": (2e-5, LINEAR, 3),
        "depth": (2e-5, CONSTANT, 2, 0.2),
        "none": (2e-5, None, 5, None, None),
        "4": (3e-5, CONSTANT, 5, 0.1, None),
    },
    "mnli": {
        "size": (64, 128, 10),
        "student": (5e-5, LINEAR, 3),
        "depth": (2e-5, CONSTANT, 2, 0.2),
        "none": (2e-5, None, 5, None, None),
        "1": (5e-5, LINEAR, 5, None, None),
        "2": (5e-5, LINEAR, 5, None, None),
        "3": (5e-5, DECAY, 5, 0.1, None),
        "4": (5e-5, DECAY, 5, 0.1, None),
    },
}
CELLS = [(task, kd) for task, facts in PAPER.items() for kd in ("none", *"1234") if kd in facts]


@pytest.mark.parametrize(("task", "kd"), CELLS)
def test_hyper_parameters_of_the_paper(task: str, kd: str) -> None:
    facts = PAPER[task]
    batch, length, copies = facts["size"]
    recipe = load_recipe(f"paper-{task}" + ("" if kd == "4" else f"-kd-{kd}"), ())
    assert (recipe.task, recipe.kd_setting, recipe.seed) == (task, kd, 42)
    teacher = recipe.teacher
    assert (teacher.model, teacher.learning_rate, teacher.epochs) == ("bert-base", 2e-5, 5)
    assert (teacher.batch_size, teacher.max_length, teacher.schedule) == (32, 128, "linear")
    assert recipe.augment.copies == copies
    assert recipe.augment.replace_probability == 0.4
    assert recipe.augment.candidates == 15
    student = recipe.student
    assert (student.batch_size, student.max_length) == (batch, length)
    schedule = (student.schedule, student.warmup)
    assert (student.learning_rate, schedule, student.epochs) == facts["student"]
    assert student.hidden == "none"
    depth = recipe.depth
    assert (depth.batch_size, depth.max_length, depth.keep_layers) == (batch, length, 8)
    cut = (depth.learning_rate, (depth.schedule, depth.warmup), depth.epochs, depth.prune_fraction)
    assert cut == facts["depth"]
    assert depth.hidden == "none"
    width = recipe.width
    assert (width.keep_heads, width.ffn_units, width.embedding_rank) == (2, 512, 128)
    rate, schedule_of_last, epochs, fraction, patience = facts[kd]
    assert (width.learning_rate, width.epochs, width.patience) == (rate, epochs, patience)
    if schedule_of_last is not None:
        assert (width.schedule, width.warmup) == schedule_of_last
    if fraction is not None:
        assert width.prune_fraction == fraction
    assert width.batch_size == (32 if kd == "none" else batch)
    assert width.hidden == "states"
    assert (width.temperature, width.weight_decay, width.clip_norm) == (1.0, 0.01, 1.0)
    assert not any(recipe.fidelity.model_dump().values())


def test_every_cell_of_the_paper_ships() -> None:
    shipped = {name for name in RECIPES if name.startswith("paper-")}
    assert shipped == {f"paper-{task}" + ("" if kd == "4" else f"-kd-{kd}") for task, kd in CELLS}


def test_constants_are_those_of_the_package() -> None:
    config = json.loads((locate("minilm-l6") / "config.json").read_text(encoding="utf-8"))
    assert {name: config[name] for name in MINILM_L6} == dict(MINILM_L6)


@pytest.mark.parametrize("name", list(RECIPES))
def test_recipe_survives_its_own_yaml(name: str, tmp_path: Path) -> None:
    shown = rosita("recipes", name, home=tmp_path / "home")
    assert shown.code == 0, shown.stderr
    path = tmp_path / "again.yaml"
    path.write_text(shown.stdout, encoding="utf-8")
    again, shipped = load_recipe(str(path), ()), RECIPES[name]()
    if shipped.data.train is not None:
        # What a file names lies beside it.
        data = shipped.data.model_copy(update={"train": str(tmp_path / shipped.data.train)})
        shipped = shipped.model_copy(update={"data": data})
    assert again == shipped


def test_file_with_a_base(tmp_path: Path) -> None:
    path = recipe_file(tmp_path, {"base": "demo", "seed": 7, "width": {"ffn_units": 256}})
    recipe = load_recipe(path, ("width.keep_heads=3", "kd_setting=none"))
    expected = RECIPES["demo"]().model_dump()
    expected |= {"name": "mine", "seed": 7, "kd_setting": "none"}
    expected["width"] |= {"ffn_units": 256, "keep_heads": 3}
    assert recipe.model_dump() == expected


def test_the_example_of_the_manual_is_a_recipe(tmp_path: Path) -> None:
    values = yaml.safe_load(
        """
        task: sst2
        data: {source: glue-dir, path: data/glue/SST-2}
        seed: 42
        kd_setting: 4
        teacher: {model: minilm-l6, learning_rate: 5e-5, epochs: 3, batch_size: 32, max_length: 64}
        augment:
          copies: 20
          replace_probability: 0.4
          proposers: {mlm: null, vectors: glove-6b-50d}
        student: {learning_rate: 2e-5, epochs: 5, schedule: linear, warmup: 0.1}
        depth: {keep_layers: 8, learning_rate: 2e-5, epochs: 5, schedule: constant,
                prune_fraction: 0.5}
        width: {keep_heads: 2, ffn_units: 512, embedding_rank: 128, learning_rate: 1e-5, epochs: 10,
                schedule: constant, prune_fraction: 0.01}
        numerics: {device: auto, precision: auto, threads: auto}
        checkpoint: {every_seconds: 300}
        fidelity: {}
        """
    )
    recipe = load_recipe(recipe_file(tmp_path, values), ())
    assert (recipe.kd_setting, recipe.teacher.learning_rate) == ("4", 5e-5)


@pytest.mark.parametrize("formats", [["onnx"], ["hugging-face", "hugging-face"], []])
def test_the_checkpoint_is_once_among_the_formats(formats: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^export.formats must be hugging-face and others, each"):
        load_recipe("smoke", {"export.formats": formats})
    assert load_recipe("demo", ()).export.formats == ("hugging-face", "onnx", "onnx-int8")
