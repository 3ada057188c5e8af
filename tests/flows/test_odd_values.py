"""Values that no one means are refused like wrong ones, whichever way they come."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import csv_file, recipe_file, rosita
from refusals import refused
from typed_command import ROSITA, Home, environment

from flows.grids.definition import cells_of, grid_of
from flows.grids.loading import load_grid
from flows.recipes.changes import fields_of, texts_of
from flows.recipes.shipped import load_recipe

ROWS = [f"film number {i} was {'good' if i % 2 else 'bad'},{i % 2}" for i in range(60)]
NAME = "must be a line of letters, not of blanks or dots alone"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., str]:
    """A recipe file for own data: smoke's sizes; `data` is added to its section."""

    def make(train: str | Path, **data: Any) -> str:
        section = {"source": "files", "train": str(train), "dev_rows": 10} | data
        return recipe_file(tmp_path, {"base": "smoke", "task": "custom", "data": section})

    return make


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student.hidden": ["states"]}, "student.hidden must be none or states, got "),
        ({"width.hidden": {"states": 1}}, "width.hidden must be none or states, got "),
        ({"depth.hidden": 1}, "depth.hidden must be none or states, got "),
        ({"method": ["stat"]}, "method must be "),
        ({"compress.rank": {}}, "compress.rank must be "),
        ({"width.epochs": 1e308}, "width.epochs must be at most 1000000, got 1e+308"),
        ({"teacher.epochs": 1e18}, "teacher.epochs must be at most 1000000, got 1e+18"),
        (
            {"teacher.accumulate": 10**400},
            "teacher.accumulate must be at most 1000000000, got 1",
        ),
        ({"augment.copies": 10**24}, "augment.copies must be at most 10000, got 1"),
        ({"numerics.threads": 10**21}, "numerics.threads must be auto or at most 65536, got 1"),
        ({"assess.latency_repeats": 10**400}, "assess.latency_repeats must be at most 65536"),
        ({"assess.latency_batch_sizes": [10**12]}, "assess.latency_batch_sizes must be at most"),
        ({"assess.latency_batch_sizes": [True]}, "must be a number, got [True]"),
        ({"assess.latency_batch_sizes": [1, 1]}, "must be a list that has each once, got"),
        ({"assess.baselines": ["majority"] * 2}, "assess.baselines must be a list that has each"),
        ({"student.temperature": 1e-320}, "student.temperature must be at least 0.01, got 1e-320"),
        ({"kd.cache_gb": 1e308}, "kd.cache_gb must be at most 1000000, got 1e+308"),
        ({"name": ""}, f"name {NAME}, got ''"),
        ({"name": ".."}, f"name {NAME}, got '..'"),
        ({"name": "a\nb"}, f"name {NAME}, got 'a\\nb'"),
        ({"name": "a\0b"}, "name must be text without NUL and halves of letters, got 'a\\x00b'"),
        ({"name": "a\ud800"}, "name must be text without NUL and halves of letters, got 'a\\ud"),
        ({"name": "x" * 201}, "name must be at most 200 letters, got 'xxx"),
        ({"problem": " "}, f"problem {NAME}, got ' '"),
        ({"problem": "y" * 3000}, "problem must be at most 200 letters, got 'yyy"),
        ({"data.train": "a\0.csv"}, "data.train must be text without NUL"),
        ({"data.columns.text_b": "label"}, "data.columns.text_b must be another column than label"),
        ({"data.columns.label": "text"}, "data.columns.label must be another column than text_a"),
        (
            {"method": "stat", "compress.kcm.sigma": 7},
            "compress.kcm must be left alone unless compress.rank is kcm, which is pivots",
        ),
        (
            {"method": "random", "compress.ridge": 2},
            "compress.ridge must be left alone unless compress.repair is dense, which is none,",
        ),
        (
            {"method": "taylor", "compress.floor.units": 1000},
            "compress.floor.units must be at most 128, what a layer of a4_l4_f128_e32 has, got 1",
        ),
        ({"method": "kcm", "compress.floor.heads": 5}, "compress.floor.heads must be at most 4,"),
    ],
)
def test_a_value(changes: Mapping[str, Any], message: str, home: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: smoke\n", encoding="utf-8")
    texts = [f"{field}={json.dumps(value)}" for field, value in changes.items()]
    arguments = [word for text in texts for word in ("--set", text)]
    assert message in refused(home, "--recipe", str(path), *arguments)


def test_a_class_that_is_given_twice(home: Path) -> None:
    """JSON has no keys that are numbers."""
    said = refused(home, "--recipe", "smoke", "--set", "teacher.labels={a: b, a: c}")
    assert said == "--set teacher.labels must have each key once, got '{a: b, a: c}'"
    said = refused(home, "--recipe", "smoke", "--set", 'teacher.labels={0: a, "0": b}')
    assert said.startswith("teacher.labels must be a map that has each class once, got ")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "base: smoke\nname: !!bool abc\n", "recipe must be YAML in UTF-8, got {path}: "),
        ("a.yaml", "base: smoke\nname: !!int abc\n", "recipe must be YAML in UTF-8, got {path}: "),
        ("a.yaml", "base: smoke\nname: 2021-02-30\n", "recipe must be YAML in UTF-8, got {path}: "),
        ("a.yaml", f"base: smoke\nseed: {'9' * 5000}\n", "recipe must be YAML in UTF-8, got "),
        ("a.yaml", "base: smoke\ndata: &d\n  path: *d\n", "data.path that holds itself of {path}"),
        ("a.yaml", "name: " + "[" * 3000, "recipe must be YAML in UTF-8, got {path}: it is nested"),
        ("a.json", '{"name": ' + "[" * 99999, "recipe must be JSON in UTF-8, got {path}: it is ne"),
        ("a.json", '{"base": "smoke", "seed": NaN}', "seed must be a"),
        ("a.json", '{"base": "smoke", "name": "\\ud83d"}', "name must be text without NUL and"),
        ("a.toml", "name = " + "[" * 3000, "recipe must be TOML in UTF-8, got {path}: it is nes"),
        ("a.toml", f'base = "smoke"\nseed = {"9" * 5000}\n', "recipe must be TOML in UTF-8, got"),
    ],
)
def test_a_file(name: str, text: str, message: str, home: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert message.format(path=path) in refused(home, "--recipe", str(path))


@pytest.mark.parametrize(
    "text", ["[" * 3000, "2020-13-45", "!!bool abc", "!!int abc", "9" * 5000, "&a [*a]"]
)
def test_a_value_of_the_command_line(text: str, home: Path) -> None:
    said = refused(home, "--recipe", "smoke", "--set", f"problem={text}")
    assert said.startswith("--set problem must be a value of YAML, got ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipe", "x" * 300), "recipe must be one of smoke"),
        (("--recipe", "a\0.yaml"), "recipe must be YAML in UTF-8, got "),
        (("--recipe", f"{'x' * 300}.yaml"), "recipe must be YAML in UTF-8, got "),
        (
            ("--recipe", "smoke", "--set", f"teacher.model={'m' * 300}"),
            "teacher.model must be a path that can be read, got mmm",
        ),
        (
            ("--recipe", "smoke", "--set", f"augment.proposers.vectors=/{'v' * 300}"),
            "augment.proposers.vectors must be a path that can be read, got /vvv",
        ),
        (
            (
                *("--recipe", "smoke", "--set", "task=custom", "--set", "data.source=files"),
                *("--set", f"data.train={'t' * 300}.csv"),
            ),
            "data.train must be a path that can be read, got ",
        ),
    ],
)
def test_a_path_that_cannot_be(arguments: tuple[str, ...], message: str, home: Path) -> None:
    assert message in refused(home, *arguments)


def test_a_file_that_holds_no_word_vectors(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na film,1\n", encoding="utf-8")
    said = refused(home, "--recipe", "smoke", "--set", f"augment.proposers.vectors={path}")
    assert f"augment.proposers.vectors must be word vectors: line 1 of {path} must hold a" in said


def test_names_are_no_markup(home: Path) -> None:
    name = "a [/b] of [red] :joy:"
    done = rosita("plan", "--recipe", "smoke", "--set", f'name="{name}"', home=home)
    assert done.code == 0, done.stderr
    assert name in done.stdout


def test_letters_that_a_terminal_lacks(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(ROSITA), "plan", "--recipe", "smoke", "--set", "name=caf\u00e9"],
        env=environment(tmp_path / "home", tmp_path / "prefect", {"PYTHONIOENCODING": "ascii"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "caf\\xe9" in done.stdout


def test_an_argument_that_is_no_text(smoke_home: Home) -> None:
    """As a shell passes a byte that is not UTF-8."""
    done = rosita("predict", "a\udcffb", home=smoke_home.home)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "rosita: text must be in UTF-8, got 'a\\udcffb'"


def test_letters_of_two_halves_stay_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"base": "smoke", "name": "\N{GRINNING FACE} film"}))
    assert load_recipe(str(path), ()).name == "\N{GRINNING FACE} film"
    fields = {"name": "\N{GRINNING FACE}"}
    assert fields_of(texts_of(fields)) == fields


def test_names_of_classes_are_no_fields() -> None:
    nested = {"teacher": {"epochs": 0, "labels": {"LABEL_0": "bad", "a.b": "good"}}}
    assert texts_of(nested) == (
        "teacher.epochs=0",
        'teacher.labels={"LABEL_0": "bad", "a.b": "good"}',
    )
    assert fields_of(texts_of(nested))["teacher.labels"] == nested["teacher"]["labels"]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"a": {"x" * 300: {}}}, "name must be at most 200 letters, got "),
        ({axis: {axis * 40: {}} for axis in "abcdefgh"}, "name must be at most 200 letters, got "),
        ({"a": {1: {}, "1": {}}}, "axes.a must have values that differ, got 1 twice"),
        ({"a": {True: {}, "true": {}}}, "axes.a must have values that differ, got true twice"),
        ({"width.keep_heads": [1, 1.0]}, "axes.width.keep_heads must have values that differ"),
    ],
)
def test_a_grid(axes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        cells_of(grid_of({"name": "g", "base": "smoke", "axes": axes, "seeds": [1]}))
    with pytest.raises(ValueError, match=r"^seeds must be a number"):
        grid_of({"name": "g", "base": "smoke", "seeds": [True]})
    with pytest.raises(ValueError, match=r"^name must be at most 200 letters"):
        grid_of({"name": "g" * 300, "base": "smoke"})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("\u200b,1", "text_a ('text') must not be empty, got '\\u200b' in row 61"),
        ("\0,1", "text_a ('text') must not be empty, got '\\x00' in row 61"),
        ("film,\ufeff", "label ('label') must not be empty, got '\\ufeff' in row 61"),
    ],
)
def test_a_row_of_nothing(
    row: str, message: str, own: Callable[..., str], home: Path, tmp_path: Path
) -> None:
    train = csv_file(tmp_path / "train.csv", "text,label", [*ROWS, row])
    assert message in refused(home, "--recipe", own(train))


def test_numbers_that_say_nothing(own: Callable[..., str], home: Path, tmp_path: Path) -> None:
    train = csv_file(tmp_path / "a.csv", "text,label", [f"film number {i},3.5" for i in range(60)])
    said = refused(home, "--recipe", own(train, kind="regression"))
    assert "label of train must have at least 2 values, got 1 (3.5)" in said
    rows = [{"text": f"film number {i}", "label": i % 2} for i in range(60)]
    for number in ("Infinity", "1e400"):
        lines = [json.dumps(row) for row in rows] + [f'{{"text": "film", "label": {number}}}']
        (tmp_path / "b.jsonl").write_text("\n".join(lines))
        said = refused(home, "--recipe", own(tmp_path / "b.jsonl"))
        assert "label ('label') must be finite, got inf in row 61 of " in said


def test_parquet_that_cannot_be_python(own: Callable[..., str], home: Path, tmp_path: Path) -> None:
    texts = [f"film number {i}" for i in range(60)]
    far = pa.array([10**17] * 60, type=pa.int64()).cast(pa.date64())
    path = tmp_path / "far.parquet"
    pq.write_table(pa.table({"text": texts, "label": far}), path)
    assert f"{path} must be a Parquet file, got: " in refused(home, "--recipe", own(path))
    bytes_ = pa.array([text.encode() for text in texts[:-1]] + [b"caf\xe9"], type=pa.binary())
    wrong = pa.StringArray.from_buffers(60, *bytes_.buffers()[1:])
    path = tmp_path / "latin.parquet"
    pq.write_table(pa.table({"text": wrong, "label": [0, 1] * 30}), path)
    assert f"{path} must be a Parquet file, got: " in refused(home, "--recipe", own(path))


def test_columns_with_odd_names(own: Callable[..., str], home: Path, tmp_path: Path) -> None:
    rows = [{"text": f"film number {i}", "label": i % 2, "\ud800": 1} for i in range(60)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = refused(home, "--recipe", own(tmp_path / "a.jsonl"))
    assert "must have columns with names in Unicode, got '\\ud800'" in said


def test_parquet_that_is_damaged_inside(
    own: Callable[..., str], home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.parquet"
    rows = {"text": [f"film number {i}" for i in range(60)], "label": [i % 2 for i in range(60)]}
    pq.write_table(pa.table(rows), path, compression="snappy")
    content = bytearray(path.read_bytes())
    content[40:160] = b"\xff" * 120
    path.write_bytes(bytes(content))
    said = refused(home, "--recipe", own(path))
    assert said.startswith(f"data.train: {path} must be a Parquet file, got: ")


@pytest.mark.parametrize(
    ("labels", "data", "message"),
    [
        (("1e39", "2"), {"kind": "regression"}, "label of train must be in [-1e+18, 1e+18], got 1"),
        (
            ("1000000", "1000000.1"),
            {"kind": "regression"},
            "label of train must have a deviation of at least 10 where the largest is 1e+06",
        ),
        (("a\x07b", "c"), {}, "label must have a name in a line for each class, got 'a\\x07b'"),
        (
            ("a", "b", "c"),
            {"limit_rows": 2},
            "data.limit_rows must be at least 3, a row a class, got 2",
        ),
    ],
)
def test_labels_that_no_model_learns(
    labels: tuple[str, ...],
    data: dict[str, Any],
    message: str,
    own: Callable[..., str],
    home: Path,
    tmp_path: Path,
) -> None:
    rows = [f"film number {i},{labels[i % len(labels)]}" for i in range(60)]
    train = csv_file(tmp_path / "rows.csv", "text,label", rows)
    assert message in refused(home, "--recipe", own(train, **data))


def test_a_section_changes_the_fields_that_it_names_alone() -> None:
    whole = load_recipe("smoke", ())
    changed = load_recipe("smoke", ("augment={copies: 3}",))
    assert changed == load_recipe("smoke", ("augment.copies=3",)) != whole
    grid = grid_of({"name": "g", "base": "smoke", "set": {"augment": {"copies": 3}}, "seeds": [1]})
    [cell] = cells_of(grid)
    assert cell.recipe.augment == changed.augment
    several = ("augment={copies: 3}", "augment={candidates: 4}", "augment={}")
    both = load_recipe("smoke", several).augment
    assert (both.copies, both.candidates) == (3, 4)
    values = {"name": "g", "base": "smoke", "set": {"width": {"ffn_units": 64}}, "seeds": [1]}
    [cell] = cells_of(load_grid(values, None, ("width={keep_heads: 3}",), None))
    assert (cell.recipe.width.ffn_units, cell.recipe.width.keep_heads) == (64, 3)
    # What the user says holds for all cells of a shipped grid, however it is written.
    grids = [
        [cell.recipe for cell in cells_of(load_grid("kd-settings", "paper-sst2", (said,), None))]
        for said in ("width={epochs: 1}", "width.epochs=1")
    ]
    assert grids[0] == grids[1]
    with pytest.raises(ValueError, match=r"^set must leave width\.keep_heads to the axis x, which"):
        axes = {"x": {"a": {"width": {"keep_heads": 1}}, "b": {"width.keep_heads": 2}}}
        cells_of(grid_of({**values, "set": {"width.keep_heads": 3}, "axes": axes}))


def test_a_map_of_classes_is_replaced_as_a_whole() -> None:
    start = {"base": "smoke", "teacher": {"labels": {"neg": "bad", "pos": "good"}}}
    other = "teacher.labels={LABEL_0: bad, LABEL_1: good}"
    assert load_recipe(start, (other,)).teacher.labels == {"LABEL_0": "bad", "LABEL_1": "good"}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("grid", "--grid", "smoke-grid", "--workers", "x", "--plan"), "'--workers'"),
        (("predict", "x", "--batch-size", "1.5"), "'--batch-size'"),
        (("plan",), "Missing option '--recipe'"),
        (("plan", "--recipe", "smoke", "--no-such"), "No such option: --no-such"),
        (("no-such",), "No such command 'no-such'"),
    ],
)
def test_a_command_that_cannot_be_read(command: tuple[str, ...], message: str, home: Path) -> None:
    assert message in refused(home, *command[1:], command=command[0])
