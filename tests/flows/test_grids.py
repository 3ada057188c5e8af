"""Grids: cells, seeds, budgets, what ships, files of one's own, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import rosita
from hypothesis import given
from hypothesis import strategies as st

from flows.grids.definition import Cell, Grid, base_recipe, cells_of, grid_of, student_parameters
from flows.grids.files import read_definition, write_definition
from flows.grids.loading import chosen_cells, load_grid
from flows.grids.shipped import RECOVERED, SWITCHES, TEMPLATES
from flows.recipes.presets import METHODS
from flows.recipes.shipped import RECIPES, load_recipe
from flows.recipes.sizes import shapes
from rosita_core.model.shape import count_parameters

SHIPPED = [n for n in RECIPES if n.startswith(("paper-", "minilm-")) and "-kd-" not in n]
SMOKE: dict[str, Any] = {"name": "mine", "base": "smoke"}


def shipped(name: str, *changes: str) -> Grid:
    return load_grid(name, None, changes, None)


def by_label(grid: Grid) -> dict[str, Cell]:
    """The cells of the first seed by their labels."""
    return {"-".join(c.labels.values()): c for c in cells_of(grid) if c.seed == grid.seeds[0]}


def differences(cell: Cell, other: Cell) -> dict[str, Any]:
    """Dotted fields in which a cell's recipe differs, but for its name."""

    def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in values.items():
            inner = flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
            found |= {prefix + name: value} if inner is None else inner
        return found

    mine, theirs = (flat(c.recipe.model_dump(mode="json")) for c in (cell, other))
    return {k: v for k, v in mine.items() if theirs[k] != v and k != "name"}


def test_cells_are_the_product_of_axes_and_seeds() -> None:
    axes = {
        "kd_setting": ["none", 2, "4"],
        "size": {"small": {"width.ffn_units": 16}, "large": {"width.ffn_units": 64}},
    }
    cells = cells_of(grid_of({**SMOKE, "axes": axes, "seeds": [7, 8]}))
    assert len(cells) == len({cell.id for cell in cells}) == 3 * 2 * 2
    assert [cell.seed for cell in cells] == [7] * 6 + [8] * 6
    cell = next(c for c in cells if c.id == "2-large-s8")
    assert cell.labels == {"kd_setting": "2", "size": "large"}
    assert cell.recipe.name == "mine/2-large"
    assert (cell.recipe.seed, cell.recipe.kd_setting) == (8, "2")
    assert cell.recipe.width.ffn_units == 64
    assert student_parameters(cell) > student_parameters(cells[0])


def test_seeds_alone_are_a_grid() -> None:
    cells = cells_of(grid_of(SMOKE))
    assert [(cell.id, cell.seed) for cell in cells] == [
        ("base-s42", 42),
        ("base-s43", 43),
        ("base-s44", 44),
    ]


@given(st.integers(1, 3), st.integers(1, 3), st.data())
def test_exclude_leaves_out_exactly_what_it_names(a: int, b: int, data: st.DataObject) -> None:
    axes = {
        "student.epochs": [float(n + 1) for n in range(a)],
        "depth.epochs": [float(n + 1) for n in range(b)],
    }
    pairs = [(x, y) for x in axes["student.epochs"] for y in axes["depth.epochs"]]
    out = data.draw(st.lists(st.sampled_from(pairs), unique=True, max_size=len(pairs) - 1))
    exclude = [{"student.epochs": str(x), "depth.epochs": str(y)} for x, y in out]
    cells = cells_of(grid_of({**SMOKE, "axes": axes, "seeds": [1], "exclude": exclude}))
    left = {(c.recipe.student.epochs, c.recipe.depth.epochs) for c in cells}
    assert left == set(pairs) - set(out)


def test_set_and_changes_reach_every_cell() -> None:
    grid = load_grid("smoke-grid", None, ("data.limit_rows=64", "width.hidden=false"), (5,))
    cells = cells_of(grid)
    assert [cell.id for cell in cells] == ["1-s5", "4-s5"]
    assert all(c.recipe.data.limit_rows == 64 and c.recipe.width.hidden == "none" for c in cells)


@pytest.mark.parametrize("recipe", SHIPPED)
@pytest.mark.parametrize("template", list(TEMPLATES))
def test_shipped_grids_are_valid_for_every_shipped_recipe(template: str, recipe: str) -> None:
    grid = shipped(f"{template}-{recipe}")
    assert grid == load_grid(template, recipe, (), None)
    cells = cells_of(grid)
    assert len(grid.seeds) == 3
    assert all(student_parameters(c) > 0 for c in cells if c.recipe.method == "rosita")
    base = load_recipe(recipe, ())
    if template not in ("architecture", "pruning-frequency", "methods"):
        own = {"name": base.name, "problem": base.problem}
        same = {cell.recipe.model_copy(update=own) for cell in cells}
        assert base in same


def test_methods_are_compared_at_the_same_sizes_of_the_encoder() -> None:
    cells = [cell for cell in cells_of(shipped("methods-demo")) if cell.seed == 42]
    named = {cell.id.removesuffix("-s42"): cell.recipe for cell in cells}
    assert len(named) == len(METHODS) * 2 - 1 + len(RECOVERED) + 1
    assert "kcm-0.3" not in named and named["kcm-0.5"].compress.recover == "none"
    for name in RECOVERED:
        assert named[f"{name}-0.3-kd"].compress.recover == "kd"
    teacher, student = shapes(named["rosita-0.3"], 2)
    assert student is not None and student.embedding_rank is None
    encoders = [count_parameters(shape).encoder for shape in (teacher, student)]
    assert 0.297 < encoders[1] / encoders[0] <= 0.3
    assert {recipe.width.epochs for recipe in named.values()} == {0.6667}
    assert {recipe.export.formats for recipe in named.values()} == {("hugging-face",)}
    changes = ("width.epochs=0.1", "export.formats=[hugging-face, onnx]")
    changed = [cell.recipe for cell in cells_of(load_grid("methods", "demo", changes, None))]
    assert {recipe.width.epochs for recipe in changed} == {0.1}
    assert {recipe.export.formats for recipe in changed} == {("hugging-face", "onnx")}


def test_sizes_that_a_cut_decides_are_no_budget_of_a_grid() -> None:
    grid = shipped("methods-demo").model_copy(update={"budget": 0.1})
    with pytest.raises(ValueError, match="budget must be left out of a grid of several methods"):
        cells_of(grid)


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_a_remembered_grid_has_the_same_cells_in_the_same_order(
    template: str, tmp_path: Path
) -> None:
    """Ids are made of labels in the order of the axes; a report compares with the first cell."""
    grid = load_grid(f"{template}-minilm-sst2", None, (), None)
    write_definition(tmp_path, grid)
    again = read_definition(tmp_path, grid.name)
    assert [cell.id for cell in cells_of(again)] == [cell.id for cell in cells_of(grid)]


def test_smoke_grid_has_four_cells() -> None:
    cells = cells_of(shipped("smoke-grid"))
    assert [cell.id for cell in cells] == ["1-s42", "4-s42", "1-s43", "4-s43"]


@pytest.mark.parametrize("task", ["cola", "sst2", "mnli"])
def test_kd_settings_of_the_paper_have_the_authors_schedules(task: str) -> None:
    cells = by_label(shipped(f"kd-settings-paper-{task}"))
    assert list(cells) == ["none", "1", "2", "3", "4"]
    for setting, cell in cells.items():
        name = f"paper-{task}" + ("" if setting == "4" else f"-kd-{setting}")
        named = {"name": cell.recipe.name, "problem": task}
        assert cell.recipe == RECIPES[name]().model_copy(update=named)


def test_a_schedule_of_ones_own_holds_for_every_setting_of_the_paper() -> None:
    cells = by_label(shipped("kd-settings-paper-sst2", "width.epochs=1"))
    assert {cell.recipe.width.epochs for cell in cells.values()} == {1}
    assert cells["1"].recipe.width.learning_rate == 5e-5


@pytest.mark.parametrize("change", [(), ("width.epochs=0.5",)])
def test_settings_of_minilm_see_as_many_rows(change: tuple[str, ...]) -> None:
    """Setting none learns from the original rows, so its epochs are shorter and more."""
    cells = by_label(shipped("kd-settings-minilm-sst2", *change))
    copies = cells["4"].recipe.augment.copies
    rows = cells["4"].recipe.width.epochs * (1 + copies)
    assert cells["none"].recipe.width.epochs == pytest.approx(rows, rel=1e-3)
    changed = differences(cells["none"], cells["4"])
    assert set(changed) == {"kd_setting", "width.epochs", "width.evaluations_per_epoch"}
    for setting in "123":
        assert differences(cells[setting], cells["4"]) == {"kd_setting": setting}


def test_architectures_have_one_budget() -> None:
    reference = {
        "a2_l12_f256_e128": 14_493_698,
        "a2_l8_f512_e128": 14_474_754,
        "a2_l6_f768_e128": 14_465_282,
        "a2_l4_f1280_e128": 14_455_810,
        "a4_l4_f1024_e128": 14_456_322,
        "a4_l3_f1536_e128": 14_451_458,
        "a4_l2_f2560_e128": 14_446_594,
        "a2_l8_f192_e256": 14_545_154,
        "a2_l4_f640_e256": 14_526_210,
    }
    paper = by_label(shipped("architecture-paper-sst2"))
    assert {label: student_parameters(cell) for label, cell in paper.items()} == reference
    cells = by_label(shipped("architecture-minilm-sst2"))
    counts = {label: student_parameters(cell) for label, cell in cells.items()}
    assert counts["a2_l5_f180_e48"] == 3_026_342
    assert max(counts.values()) / min(counts.values()) < 1.0026
    assert sorted(cell.recipe.depth.keep_layers for cell in cells.values()) == [1, 2, 3, 4, 4, 5, 6]
    # One method: the shape is all that differs.
    for recipes in ([c.recipe for c in cells.values()], [c.recipe for c in paper.values()]):
        assert {recipe.kd_setting for recipe in recipes} == {"4"}
        assert len({recipe.width.prune_steps for recipe in recipes}) == 1


def test_frequencies_vary_one_at_a_time() -> None:
    grid = shipped("pruning-frequency-minilm-sst2")
    base = base_recipe(grid)
    for cell in cells_of(grid):
        width, depth = (cell.labels[f"{name}.prune_fraction"] for name in ("width", "depth"))
        assert width == f"{base.width.prune_fraction:g}" or depth == (
            f"{base.depth.prune_fraction:g}"
        )
        assert (cell.recipe.width.prune_steps == 1) == (width == "one-step")
    labels = {cell.labels["width.prune_fraction"] for cell in cells_of(grid)}
    assert labels == {"one-step", "0.01", "0.1", "0.2", "0.5"}
    # Several layers to remove, at the same budget.
    assert base.depth.keep_layers == 3
    assert student_parameters(cells_of(grid)[0]) == pytest.approx(3_026_342, rel=0.01)


def test_components_differ_from_the_whole_in_one_part() -> None:
    cells = by_label(shipped("components-minilm-cola"))
    full = cells.pop("full")
    for name in SWITCHES:
        changed = differences(cells.pop(name.replace("_", "-")), full)
        assert changed == {f"fidelity.{name}": True}
    assert differences(cells["no-hidden-loss"], full) == {"width.hidden": "none"}
    assert differences(cells["no-factorization"], full) == {"width.embedding_rank": 384}
    assert differences(cells["no-intermediate-student"], full) == {"kd_setting": "3"}
    without = cells["no-augmentation"].recipe
    assert without.augment.copies == 0
    for stage in ("student", "depth", "width"):
        mine, theirs = getattr(without, stage), getattr(full.recipe, stage)
        rows = theirs.epochs * (1 + full.recipe.augment.copies)
        assert mine.epochs == pytest.approx(rows, rel=1e-3)
        scores = theirs.epochs * theirs.evaluations_per_epoch
        assert mine.epochs * mine.evaluations_per_epoch == pytest.approx(scores, rel=1e-3)


YAML = """
base: {base}
set: {{data.limit_rows: 64}}
axes:
  kd_setting: [1, none]
  rate:
    slow: {{width.learning_rate: 1e-4}}
    fast: {{width.learning_rate: 1e-3, width.warmup: 0.1}}
seeds: [1, 2]
exclude: [{{kd_setting: none, rate: fast}}]
"""
TOML = """
base = "{base}"
seeds = [1, 2]
exclude = [{{kd_setting = "none", rate = "fast"}}]
[set]
"data.limit_rows" = 64
[axes]
kd_setting = [1, "none"]
[axes.rate]
slow = {{"width.learning_rate" = 1e-4}}
fast = {{"width.learning_rate" = 1e-3, "width.warmup" = 0.1}}
"""


def test_own_grid_as_yaml_and_as_toml(tmp_path: Path) -> None:
    found = []
    for folder, name, text in (("a", "mine.yaml", YAML), ("b", "mine.toml", TOML)):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / name
        path.write_text(text.format(base="smoke"), encoding="utf-8")
        found.append(load_grid(str(path), None, (), None))
    # To YAML, 1e-4 is a text; a recipe takes it as the number that it looks like.
    assert [c.recipe for c in cells_of(found[0])] == [c.recipe for c in cells_of(found[1])]
    assert found[0].name == found[1].name == "mine"
    ids = {cell.id for cell in cells_of(found[0])}
    assert ids == {f"{what}-s{seed}" for what in ("1-slow", "1-fast", "none-slow") for seed in "12"}
    again = Grid.model_validate(found[0].model_dump(mode="json"))
    assert again == found[0]


def test_recipe_file_beside_the_grid(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("base: smoke\nkd_setting: 2\n", encoding="utf-8")
    path = tmp_path / "grid.yaml"
    path.write_text("base: own.yaml\nseeds: [1]\n", encoding="utf-8")
    (cell,) = cells_of(load_grid(str(path), None, (), None))
    assert cell.recipe.kd_setting == "2"


def test_words_that_choose_cells() -> None:
    grid = shipped("pruning-frequency-minilm-sst2")

    def chosen(*only: str) -> set[str]:
        return {cell.id for cell in chosen_cells(grid, only)}

    assert chosen() == {cell.id for cell in cells_of(grid)}
    assert chosen("0.1-0.2-s43") == {"0.1-0.2-s43"}
    assert chosen("0.1-0.2") == {f"0.1-0.2-s{seed}" for seed in (42, 43, 44)}
    only_width = chosen("width.prune_fraction=one-step")
    assert only_width == {f"one-step-0.2-s{seed}" for seed in (42, 43, 44)}
    assert chosen("one-step") == only_width | {f"0.2-one-step-s{seed}" for seed in (42, 43, 44)}


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"name": "a/b"}, "name must be letters, digits, '_', '.' and '-', got 'a/b'"),
    ({"seeds": []}, "seeds must hold at least 1, got none"),
    ({"seeds": [1, 1]}, "seeds must differ, got 1, 1"),
    ({"seeds": [-1]}, "seeds must be at least 0, got -1"),
    ({"budget": 1.5}, "budget must be below 1, got 1.5"),
    ({"sets": {}}, "sets must be one of the fields of grid"),
    ({"axes": [1]}, "axes must be a mapping of names, got list"),
    ({"axes": {"kd_setting": []}}, "axes.kd_setting must have at least 1 value, got none"),
    ({"axes": {"kd_setting": 4}}, "axes.kd_setting must be a list of values or a mapping, got 4"),
    ({"axes": {"kd_setting": [1, "1"]}}, "axes.kd_setting must have values that differ, got 1"),
    ({"axes": {"x": {"a": 3}}}, "axes.x.a must be a mapping of fields, got 3"),
    ({"axes": {"data.path": ["a/b"]}}, "axes.data.path must have labels of letters"),
    ({"axes": {"seed": [1, 2]}}, "axes.seed must leave seed and name to the grid; see seeds"),
    ({"axes": {"kd_setting": ["5"]}}, "cell 5-s42: kd_setting must be none, 1, 2, 3 or 4, got '5'"),
    ({"axes": {"width.heads": [1]}}, "cell 1-s42: width.heads must be one of the fields of width"),
    (
        {"axes": {"width.keep_heads": [1, 9]}, "budget": 0.1},
        "cell 9-s42: width.keep_heads must be in [1, 4]",
    ),
    (
        {"axes": {"a": {"b-c": {}}, "d": {"e": {}}, "f": {"g": {}}}, "exclude": [{"x": "y"}]},
        "exclude must name one of the axes a, d, f, got 'x'",
    ),
    ({"axes": {"a": {"b": {}}}, "exclude": [{"a": "c"}]}, "exclude.a must be one of b, got 'c'"),
    (
        {
            "base": "minilm-custom",
            "axes": {"data.score": ["accuracy", "macro_f1"]},
        },
        "data.score must be the same in all cells of a grid, got accuracy, macro_f1",
    ),
    ({"axes": {"a": {"b": {}}}, "exclude": [{"a": "b"}]}, "exclude must leave at least 1 cell"),
    (
        {"axes": {"width.epochs": [*range(1, 102)]}, "seeds": [*range(100)]},
        "axes and seeds must give at most 10,000 cells, got 10,100 of grid",
    ),
    (
        {"axes": {"a": {"x": {}, "x-y": {}}, "b": {"y-z": {}, "z": {}}}},
        "axes must give every cell its own id, got two x-y-z-s42",
    ),
    (
        {"axes": {"a": {"x": {"width.epochs": 1}}, "b": {"y": {"width.epochs": 2}}}},
        "cell x-y-s42: width.epochs must be set by one axis, got two values from a and b",
    ),
    (
        {"set": {"kd_setting": "1"}, "axes": {"kd_setting": ["1", "2"]}},
        "set must leave kd_setting to the axis kd_setting, which sets it in every cell, got '1'",
    ),
    ({"set": {"seed": 1}}, "set must leave seed to the grid, got 1"),
    (
        {
            "axes": {
                "t": {
                    "one": {},
                    "two": {
                        "task": "sst2",
                        "data.source": "hub",
                        "data.dev_rows": None,
                    },
                }
            }
        },
        "task must be the same in all cells of a grid, got film-reviews, sst2",
    ),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_mistakes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        cells_of(grid_of({**SMOKE, **changes}))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_budget_names_both_cells_and_their_counts() -> None:
    grid = grid_of(
        {**SMOKE, "budget": 0.01, "axes": {"width.ffn_units": [16, 32, 64]}, "seeds": [1]}
    )
    with pytest.raises(ValueError) as caught:
        cells_of(grid)
    small, large = (
        student_parameters(cell)
        for cell in cells_of(grid.model_copy(update={"budget": None}))
        if cell.labels["width.ffn_units"] != "32"
    )
    assert f"16-s1 has {small:,} and 64-s1 has {large:,}" in str(caught.value)
    exact = large / small - 1
    cells_of(grid.model_copy(update={"budget": exact}))


COMMANDS: list[tuple[tuple[str, ...], str]] = [
    (("kd-settings",), "recipe must be given for grid kd-settings, such as --recipe minilm-sst2"),
    (("nothing",), "grid must be one of kd-settings, architecture, "),
    (("missing.yaml",), "grid must be an existing file, got missing.yaml"),
    (("smoke-grid", "--recipe", "smoke"), "recipe must be left out for a grid that names its own"),
    (("kd-settings-minilm-nope",), "recipe must be a shipped one in a grid's name"),
    (("architecture", "--recipe", "smoke"), "recipe must have a teacher of 768 x 12 or 384 x 6"),
    (("lr-schedule", "--recipe", "paper-cola-kd-2"), "kd_setting must be 4 in the recipe of grid"),
    (("smoke-grid", "--set", "nonsense"), "--set must be field=value, got 'nonsense'"),
    (("smoke-grid", "--set", "width.keep_heads=9"), "cell 1-s42: width.keep_heads must be in"),
    (("smoke-grid", "--seeds", "a"), "seeds must be whole numbers such as 42,43, got 'a'"),
    (("smoke-grid", "--only", "5"), "only must be a cell of grid smoke-grid or one of kd_setting"),
    (("smoke-grid", "--workers", "0"), "workers must be at least 1, got 0"),
    (("smoke-grid", "--max-cells", "0"), "max_cells must be at least 1, got 0"),
]


@pytest.mark.parametrize(("arguments", "message"), COMMANDS)
def test_wrong_requests_end_with_code_2(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = rosita("grid", "--plan", "--grid", *arguments, home=tmp_path / "home")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(f"rosita: {message}")
    assert not (tmp_path / "home").exists()


def test_recipes_lists_the_grids(tmp_path: Path) -> None:
    done = rosita("recipes", "--json", home=tmp_path / "home")
    listed = [entry["name"] for entry in done.document["grids"]]
    assert listed == [*TEMPLATES, "smoke-grid"]
    shown = rosita("recipes", home=tmp_path / "home").stdout
    assert all(name in shown for name in listed)


def test_a_file_may_begin_as_a_shipped_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("methods-mine.yaml").write_text("base: demo\nseeds: [1, 2]\n", encoding="utf-8")
    assert load_grid("methods-mine.yaml", None, (), None).name == "methods-mine"
