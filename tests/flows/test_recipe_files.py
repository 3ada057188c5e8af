"""Recipes as files: read strictly, with lines, and with paths that are beside the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.grids.definition import cells_of
from flows.grids.loading import load_grid
from flows.recipes.changes import fields_of
from flows.recipes.shipped import load_recipe


def recipe(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("written", "read"),
    [("010", 10), ("1:30", "1:30"), ("1e-5", 1e-5), ("0x10", 16), ("no", "no"), ("true", True)],
)
def test_values_are_those_of_yaml_1_2(written: str, read: Any) -> None:
    assert fields_of([f"a={written}"]) == {"a": read}


def test_a_field_that_stands_twice(tmp_path: Path) -> None:
    text = "base: smoke\nwidth:\n  keep_heads: 2\n  ffn_units: 32\n  keep_heads: 3\n"
    path = recipe(tmp_path, text)
    lines = rf"got width.keep_heads in lines 3 and 5 of {path}"
    with pytest.raises(ValueError, match=f"^recipe must have each field once, {lines}"):
        load_recipe(path, ())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("base: smoke\nseed: 7\nwidth: {keep_heads: 2}\n", "a.yaml"),
        ('{\n\t"base": "smoke", "seed": 7,\n\t"width": {"keep_heads": 2}}', "a.json"),
        ('base = "smoke"\nseed = 7\n[width]\nkeep_heads = 2\n', "a.toml"),
    ],
)
def test_the_same_recipe_in_each_language(text: str, name: str, tmp_path: Path) -> None:
    changes = {"seed": 7, "width.keep_heads": 2, "name": "a", "problem": None}
    expected = load_recipe("smoke", changes)
    assert load_recipe(recipe(tmp_path, text, name), ()) == expected


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("base: smoke\nwidth:\n  keep_heds: 2\n", 3, "width.keep_heds must be one of the fields"),
        ("base: smoke\n\nseed: many\n", 3, "seed must be a whole number"),
        ("base: smoke\nwidth: [1, 2\n", 3, "recipe must be YAML in UTF-8"),
    ],
)
def test_complaints_name_the_line(text: str, line: int, message: str, tmp_path: Path) -> None:
    path = recipe(tmp_path, text)
    with pytest.raises(ValueError, match=rf"^{message}.*{path}, line {line}"):
        load_recipe(path, ())


def test_a_field_of_the_command_line_has_no_line(tmp_path: Path) -> None:
    path = recipe(tmp_path, "base: smoke\nseed: 3\n")
    with pytest.raises(ValueError, match=r"^seed must be .*, got 'many'$"):
        load_recipe(path, ["seed=many"])


def test_paths_are_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "project"
    (place / "my-model").mkdir(parents=True)
    text = """
    base: minilm-custom
    data: {train: rows.csv, dev: /data/dev.csv, columns: {text_a: a.csv, label: b}}
    teacher: {model: my-model}
    augment: {proposers: {vectors: glove-6b-50d}}
    """
    path = recipe(place, text)
    monkeypatch.chdir(tmp_path)
    found = load_recipe("project/mine.yaml", ["data.dev=mine.csv"])
    assert (found.data.train, found.data.dev) == (str(place / "rows.csv"), "mine.csv")
    assert found.teacher.model == str(place / "my-model")
    assert found.augment.proposers.vectors == "glove-6b-50d"
    assert found.data.columns.text_a == "a.csv"
    assert load_recipe(path, ()).data.dev == "/data/dev.csv"
    hub = recipe(place, "base: minilm-custom\nteacher: {model: prajjwal1/bert-tiny}\n", "hub.yaml")
    assert load_recipe(hub, ()).teacher.model == "prajjwal1/bert-tiny"
    grid = recipe(place, "base: mine.yaml\nset: {data.train: other.csv}\nseeds: [1]\n", "g.yaml")
    assert load_grid(grid, None, (), None).set["data.train"] == str(place / "other.csv")
    axes = "axes: {rows: {a: {data: {train: ./a.csv}}, b: {data.train: b.csv}}}"
    grid = recipe(place, f"base: mine.yaml\n{axes}\nseeds: [1]\n", "g.yaml")
    found = [cell.recipe.data.train for cell in cells_of(load_grid(grid, None, (), None))]
    assert found == [str(place / "a.csv"), str(place / "b.csv")]
    axes = "axes: {teacher.model: [my-model, minilm-l6]}"
    grid = recipe(place, f"base: mine.yaml\n{axes}\nseeds: [1]\n", "g.yaml")
    cells = {c.labels["teacher.model"]: c for c in cells_of(load_grid(grid, None, (), None))}
    assert cells["my-model"].recipe.teacher.model == str(place / "my-model")
    assert cells["minilm-l6"].recipe.teacher.model == "minilm-l6"


def test_own_data_has_a_problem_of_its_own(tmp_path: Path) -> None:
    path = recipe(tmp_path, "base: minilm-custom\n", "reviews.yaml")
    assert load_recipe(path, ()).of_problem == "reviews"
    assert load_recipe(path, ["problem=films"]).of_problem == "films"
    assert load_recipe("smoke", ()).of_problem == "smoke"
    assert load_recipe("minilm-sst2", ["name=mine"]).of_problem == "sst2"
    grid = recipe(tmp_path, "base: reviews.yaml\nseeds: [1]\n", "g.yaml")
    [cell] = cells_of(load_grid(grid, None, (), None))
    assert cell.recipe.of_problem == "reviews"
