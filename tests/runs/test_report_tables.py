"""The tables and plots of a report: what they hold follows from the records alone."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_records import SEEDS, make_records
from matplotlib.figure import Figure

from flows.grids.definition import Grid
from flows.grids.loading import load_grid
from flows.grids.records import GridRecords, load
from flows.reports import curves as report_curves
from flows.reports.build import build
from flows.reports.headline import environment, methods
from flows.reports.plots import teacher_line
from flows.reports.records import Records, report_records
from flows.reports.tables import results

PNG = b"\x89PNG\r\n\x1a\n"


def tables_of(*folders: Path) -> dict[str, pd.DataFrame]:
    """The tables of a report by name, without its plots being drawn."""
    return tables_in(report_records([load(folder) for folder in folders]))


def tables_in(records: Records) -> dict[str, pd.DataFrame]:
    return {table.name: table.frame for table in build(records).tables}


def test_comparisons_rest_on_the_recorded_predictions(records: Path) -> None:
    tables = tables_of(records / "kd-settings")
    scores = tables["results"].set_index("configuration")["score"]
    pairs = tables["differences"]
    assert len(pairs) == 10
    for row in pairs.to_dict("records"):
        assert row["difference"] == pytest.approx(scores[row["a"]] - scores[row["b"]])
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["p"] <= row["p_holm"]
        assert row["told_apart"] == (row["p_holm"] < 0.05)
        assert len(row["mcnemar"].split(", ")) == len(SEEDS)
    teacher = tables["against_teacher"].set_index("a")
    assert teacher.loc["setting 4", "difference"] == pytest.approx(
        scores["setting 4"] - scores["teacher"]
    )


def test_more_seeds_tell_more_apart(tmp_path: Path) -> None:
    """Two seeds of a pair, corrected for ten of them, tell little of new trainings."""
    apart = []
    for count in (2, 6):
        folder = make_records(tmp_path / str(count), seeds=range(42, 42 + count))
        pairs = tables_of(folder)["differences"]
        row = pairs[(pairs["a"] == "setting 4") & (pairs["b"] == "no distillation")].iloc[0]
        assert row["in_words"].endswith("they differ") == row["told_apart"]
        apart.append(row["told_apart"])
    assert apart == [False, True]


def test_equal_predictions_are_not_told_apart(records: Path, tmp_path: Path) -> None:
    grid = load(records / "kd-settings")
    three = grid.predictions[grid.predictions["cell"].astype(str).str.contains("/3-s")]
    as_four = three.assign(cell=three["cell"].astype(str).str.replace("/3-s", "/4-s"))
    others = grid.predictions[~grid.predictions["cell"].astype(str).str.contains("/4-s")]
    changed = type(grid)(
        **{**grid.__dict__, "predictions": pd.concat([others, as_four], ignore_index=True)}
    )
    report = build(report_records([changed]))
    pairs = next(table.frame for table in report.tables if table.name == "differences")
    row = pairs[(pairs["a"] == "setting 4") & (pairs["b"] == "setting 3")].iloc[0]
    assert (row["difference"], row["p_holm"], row["told_apart"]) == (0.0, 1.0, False)


def test_tasks_are_columns_where_several_grids_are_given(records: Path) -> None:
    report = build(
        report_records([load(records / "kd-settings"), load(records / "kd-settings-cola")])
    )
    table = next(table for table in report.tables if table.name == "kd_strategies")
    titles = [column.title for column in table.shown]
    assert titles == ["KD setting", "sst2 (accuracy)", "cola (mcc)", "mean of tasks"]
    assert [row[0] for row in table.rows()][-2:] == ["setting 4", "teacher"]
    frame = table.frame
    assert frame["mean"].tolist() == pytest.approx(((frame["sst2"] + frame["cola"]) / 2).tolist())
    assert len({plot.name for plot in report.plots}) == len(report.plots)
    pairs = next(table.frame for table in report.tables if table.name == "differences")
    assert pairs.groupby("family").size().tolist() == [10, 10]
    [section] = [one for one in report.sections if one.title == "Which differ"]
    leads = [f"{family}: " for family in pairs["family"].unique()]
    assert section.text and all(text.startswith(tuple(leads)) for text in section.text)
    assert all(any(text.startswith(lead) for text in section.text) for lead in leads)


def test_configurations_of_one_shape_make_no_table_of_architectures(records: Path) -> None:
    whole = load(records / "architecture")
    cells = whole.cells.copy()
    # Two configurations swap the shapes of their first cells: as many shapes as configurations.
    first, last = cells.index[0], cells.index[-1]
    cells.loc[[first, last], "shape"] = cells.loc[[last, first], "shape"].to_numpy()
    made = build(report_records([replace(whole, cells=cells)]))
    assert "architectures" not in [table.name for table in made.tables]


def test_the_architecture_table_goes_from_deep_to_shallow(records: Path) -> None:
    frame = tables_of(records / "architecture")["architectures"]
    assert frame["layers"].tolist() == [6, 5, 4, 3, 2, 1]
    assert frame["ffn_units"].tolist()[0] == "128"


def test_unfinished_cells_are_named(records: Path) -> None:
    report = build(report_records([load(records / "architecture")]))
    assert report.headline[-1] == (
        "Incomplete: 1 of 18 cells have not finished (architecture-sst2/a4_l1_f1240_e48-s44)."
    )


def test_the_best_is_compared_with_the_teachers_of_its_own_seeds(records: Path) -> None:
    kept = load(records / "kd-settings")
    best = kept.cells["kd_setting"] == "4"
    cells = kept.cells[~best | (kept.cells["seed"] == 42)]
    cells.loc[cells["seed"] == 42, "teacher_score"] = 0.987654
    cells.loc[cells["kd_setting"] == "4", "score"] = 0.976543
    report = build(report_records([replace(kept, cells=cells)]))
    assert report.headline[0].startswith("Setting 4 keeps ")
    assert "(0.977 against 0.988, 1 seed)." in report.headline[0]


@pytest.mark.parametrize(
    ("name", "recipe", "changes"),
    [
        ("smoke-grid", None, ()),
        ("kd-settings-minilm-sst2", None, ("data.limit_rows=8000", "width.patience=null")),
        (
            "architecture",
            "minilm-sst2",
            ("width.learning_rate=1.0e-05", "data.source=glue-dir", "data.path=my data"),
        ),
        ("pruning-frequency-minilm-cola", None, ("augment.proposers.vectors='1'",)),
    ],
)
def test_the_command_in_the_report_runs_the_same_grid(
    records: Path, name: str, recipe: str | None, changes: tuple[str, ...]
) -> None:
    grid = load_grid(name, recipe, changes, (42, 7))
    words = shlex.split(_command_for(records, grid))
    assert words[:3] == ["rosita", "grid", "--grid"]
    options = dict.fromkeys(words[4::2])
    assert set(options) <= {"--set", "--seeds"}
    settings = tuple(b for a, b in zip(words[4::2], words[5::2], strict=True) if a == "--set")
    seeds = tuple(map(int, words[-1].split(",")))
    assert load_grid(words[3], None, settings, seeds) == grid


def test_a_grid_of_ones_own_is_not_taken_for_a_shipped_one(records: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine-minilm-sst2.yaml"
    path.write_text("base: minilm-sst2\naxes: {width.epochs: [1, 2]}\n", encoding="utf-8")
    command = _command_for(records, load_grid(str(path), None, (), None))
    assert command == (
        "rosita grid --grid mine-minilm-sst2.yaml, which holds `definition` of grid.json"
    )


def test_configurations_that_share_a_stage_are_one_line(records: Path) -> None:
    """Also where one of them has not finished with a seed."""
    unfinished = report_records([load(records / "architecture")])
    [family] = unfinished.families
    teachers = report_curves.lines_of(unfinished, family, "teacher")
    assert {name: len(keys) for name, keys in teachers.items()} == {"all configurations": 3}
    # Where all layers are kept, there is no depth stage.
    depths = report_curves.lines_of(unfinished, family, "depth")
    assert {name: len(keys) for name, keys in depths.items()} == {
        name: 2 if name == "a4_l1_f1240_e48" else 3 for name in unfinished.configurations[1:]
    }
    settings = report_records([load(records / "kd-settings")])
    [family] = settings.families
    students = report_curves.lines_of(settings, family, "student")
    assert list(students) == ["setting 2, setting 3, setting 4"]


def test_a_shared_stage_is_counted_once(records: Path) -> None:
    stages = pd.read_parquet(records / "kd-settings" / "stages.parquet")
    table = tables_of(records / "kd-settings")["stages"].set_index("stage")
    assert table.loc["teacher", "computed"] == len(SEEDS)
    assert table.loc["teacher", "used_by"] == 5 * len(SEEDS)
    once = stages.drop_duplicates("key")["seconds"].sum()
    assert table.loc["all", "seconds"] == pytest.approx(once)
    assert table.loc["all", "seconds_unshared"] == pytest.approx(stages["seconds"].sum())


@pytest.mark.parametrize(
    ("grid", "plots"),
    [
        ("kd-settings", {"scores", "curves_width", "curves_one_step", "heads", "stage_times"}),
        ("architecture", {"scores", "pareto_macs", "pareto_latency_ms_p50_b32", "heads"}),
        ("pruning-frequency", {"scores", "frequency_width", "curves_width", "heads"}),
    ],
)
def test_plots_are_there_where_the_records_have_the_data(
    records: Path, grid: str, plots: set[str]
) -> None:
    names = {plot.name for plot in build(report_records([load(records / grid)])).plots}
    assert plots <= names
    assert ("frequency_width" in names) == (grid == "pruning-frequency")
    # One shape, or one budget of parameters, is no axis.
    assert "pareto_params" not in names
    assert ("pareto_macs" in names) == (grid == "architecture")


def test_one_seed_has_no_spread_and_a_regression_is_compared(tmp_path: Path) -> None:
    folder = make_records(tmp_path / "stsb", "kd-settings", "stsb", seeds=(42,), rows=60)
    tables = tables_of(folder)
    assert tables["results"]["score_sd"].isna().all()
    assert set(tables["results"]["score_name"]) == {"pearson_spearman"}
    assert not tables["differences"]["mcnemar"].any()
    report = build(report_records([load(folder)]))
    assert "±" not in str([table.rows() for table in report.tables])
    assert any("Fewer than three seeds" in text for s in report.sections for text in s.text)


def test_made_predictions_score_what_their_cells_say(records: Path) -> None:
    """The maker of records itself, or the comparisons above would rest on nothing."""
    cells = pd.read_parquet(records / "kd-settings" / "cells.parquet").set_index("cell")
    rows = pd.read_parquet(records / "kd-settings" / "predictions.parquet")
    right = (rows["label"] == rows["prediction"]).groupby(rows["cell"].astype(str)).mean()
    assert np.allclose(right[cells.index], cells["score"])
    document = json.loads((records / "kd-settings" / "grid.json").read_text())
    assert set(document["recipes"]) == set(cells.index)


def _command_for(records: Path, grid: Grid) -> str:
    """What a report on the records of `grid` says runs it again."""
    kept = load(records / "kd-settings")
    ran = {"definition": grid.model_dump(mode="json"), "seeds": list(grid.seeds)}
    changed = replace(kept, grid={**kept.grid, **ran})
    return dict(environment(report_records([changed])))["command"]


def seeds_alone(folder: Path, method: str) -> GridRecords:
    """A grid of seeds alone of a method by which each seed keeps other heads."""
    records = load(make_records(folder, "kd-settings", rows=200))
    cells = records.cells[records.cells["axis.kd_setting"] == "4"].drop(columns="axis.kd_setting")
    shapes = ["a3-5_l2_f90-110_e32", "a4-4_l2_f100-100_e32", "a5-3_l2_f110-90_e32"]
    recipes = records.grid["recipes"]
    document = records.grid | {
        "recipes": {name: one | {"method": method} for name, one in recipes.items()}
    }
    return replace(records, grid=document, cells=cells.assign(shape=shapes))


@pytest.mark.parametrize(
    ("method", "name"), [("fisher-mask-search", "fisher-mask-search"), ("rosita", "setting 4")]
)
def test_seeds_alone_are_one_configuration_whatever_each_keeps(
    tmp_path: Path, method: str, name: str
) -> None:
    report = build(report_records([seeds_alone(tmp_path, method)]))
    tables = {table.name: table.frame for table in report.tables}
    results = tables["results"].set_index("configuration")
    assert list(results.index) == [name, "teacher"]
    assert results.loc[name, ["seeds", "shape"]].tolist() == [3, "3 shapes"]
    assert results.loc[name, "score_sd"] > 0
    assert "differences" not in tables


def test_what_is_kept_says_of_how_many_seeds(tmp_path: Path) -> None:
    """Of a teacher at or below 0, as a matthews correlation may be, nothing can be kept."""
    records = seeds_alone(tmp_path, "rosita")
    cells = records.cells.assign(teacher_score=[0.6, 0.0, -0.05], score=[0.54, 0.0, -0.1])
    cells["retention"] = [0.9, None, None]
    report = build(report_records([replace(records, cells=cells)]))
    table = next(table for table in report.tables if table.name == "results")
    kept = [column.title for column in table.shown].index("kept")
    assert [row[kept] for row in table.rows()] == [
        "90.0 % (1 of 3 seeds)",
        "100.0 % (1 of 3 seeds)",
    ]
    said = "keeps 90.0 % of the teacher's accuracy in the 1 of 3 seeds whose teacher is above 0 at"
    assert said in report.headline[0]
    nothing = replace(records, cells=cells.assign(teacher_score=0.0, retention=None))
    table = next(t for t in build(report_records([nothing])).tables if t.name == "results")
    assert [row[kept] for row in table.rows()] == ["-", "-"]


def test_a_teacher_that_two_grids_share_is_compared_by_its_first_record(tmp_path: Path) -> None:
    """Machines differ in the last bit: its numbers are not there twice then."""
    one = load(make_records(tmp_path, "kd-settings", "stsb", seeds=(42,), rows=60))

    def named(grid: str, frame: pd.DataFrame, last_bit: bool = False) -> pd.DataFrame:
        names = frame["cell"].astype(str).str.replace("kd-settings-stsb", grid)
        changed = frame.assign(cell=names)
        if "grid" in frame:
            changed["grid"] = grid
        if last_bit:
            changed["prediction"] = np.nextafter(frame["prediction"], np.inf)
        return changed

    def renamed(grid: str, last_bit: bool) -> GridRecords:
        recipes = {
            name.replace("kd-settings-stsb", grid): one_
            for name, one_ in one.grid["recipes"].items()
        }
        return replace(
            one,
            grid=one.grid | {"recipes": recipes},
            cells=named(grid, one.cells),
            stages=named(grid, one.stages),
            predictions=named(grid, one.predictions, last_bit),
            curves=one.curves.assign(value=one.curves["value"] * (1 + 1e-9 * last_bit)),
        )

    both = report_records([renamed("a", False), renamed("b", True)])
    assert len(both.curves) == len(one.curves)
    teacher = both.predictions[both.predictions["cell"].str.startswith("teacher:")]
    assert len(teacher) == 60
    assert len({table.name: table.frame for table in build(both).tables}["against_teacher"]) == 10


def test_each_teacher_has_a_row_and_a_line_of_its_own(records: Path) -> None:
    """Where an axis changes the teacher, one of them does not stand for all."""
    kept = load(records / "architecture")
    other = kept.cells["axis.shape"].isin(["a4_l2_f540_e48", "a4_l1_f1240_e48"])
    names = set(kept.cells.loc[other, "cell"])
    theirs = kept.stages["cell"].isin(names) & (kept.stages["stage"] == "teacher")
    stages = kept.stages.assign(key=kept.stages["key"].mask(theirs, kept.stages["key"].str[::-1]))
    cells = kept.cells.assign(teacher_score=kept.cells["teacher_score"] + 0.05 * other)
    changed = report_records([replace(kept, cells=cells, stages=stages)])
    table = results(changed).frame.set_index("configuration")
    first, second = ("teacher of a2_l6_f128_e48 and 3 more", "teacher of a4_l2_f540_e48 and 1 more")
    assert table.index[-2:].tolist() == [first, second]
    assert table.loc[second, "score"] == pytest.approx(table.loc[first, "score"] + 0.05)
    assert table.loc[[first, second], "seeds"].tolist() == [3, 3]
    assert "keeps" in build(changed).headline[0]
    axes = Figure().subplots()
    teacher_line(axes, changed.cells, vertical=False)
    assert [line.get_ydata()[0] for line in axes.get_lines()] == pytest.approx(
        table.loc[[first, second], "score"].tolist()
    )


def test_a_teacher_that_read_less_of_each_text_is_another_one(records: Path) -> None:
    """One training, whose teacher is scored on as many tokens as each student."""
    kept = load(records / "architecture")
    short = kept.cells["axis.shape"].isin(["a4_l2_f540_e48", "a4_l1_f1240_e48"])
    trained = kept.stages[kept.stages["stage"] == "teacher"].set_index("cell")["key"]
    names = "teacher:" + kept.cells["cell"].map(trained)
    cells = kept.cells.assign(taught_by=names.where(~short, names + "@16"))
    theirs = kept.predictions[kept.predictions["cell"].isin(names)]
    worse = theirs.assign(cell=theirs["cell"].astype(str) + "@16", prediction=0)
    predictions = pd.concat([kept.predictions, worse], ignore_index=True)
    found = report_records([replace(kept, cells=cells, predictions=predictions)])
    assert found.cells.groupby("teachers").ngroups == 2
    against = tables_in(found)["against_teacher"].set_index("a")["difference"]
    before = tables_of(records / "architecture")["against_teacher"].set_index("a")["difference"]
    changed = found.cells.loc[short, "configuration"].unique()
    assert (against[changed] > before[changed]).all()
    same = before.index.difference(changed)
    assert against[same].tolist() == pytest.approx(before[same].tolist())


def test_the_rows_of_a_score_are_those_of_its_own_task_and_split(
    records: Path, tmp_path: Path
) -> None:
    kept = load(records / "kd-settings")
    domain = kept.predictions.assign(split="domain:books")
    more = pd.concat([kept.predictions, domain, domain.assign(row=domain["row"] + 900)])
    other = load(make_records(tmp_path, "kd-settings", "mrpc", seeds=(42,), rows=60))
    found = report_records([replace(kept, predictions=more), other])
    assert methods(found, compared=False)[0].startswith(
        "Scores: accuracy on 300 dev rows of sst2, accuracy on 60 dev rows of mrpc, which chose"
    )


def test_facts_are_those_of_all_cells(records: Path) -> None:
    """Not of the call that measured the last of them."""
    kept = load(records / "kd-settings")
    machines = [{"hardware": {"cpu": name}, "versions": {"torch": "2.13.0"}} for name in "ab"]
    grid = kept.grid | {"seeds": [42, 45], "commits": ["1" * 40, "2" * 40]}
    grid["definition"] = load_grid("kd-settings-minilm-sst2", None, (), (45,)).model_dump(
        mode="json"
    )
    found = dict(
        environment(report_records([replace(kept, grid=grid | {"environments": machines})]))
    )
    assert found["command"].endswith("--seeds 42,45")
    assert found["commit"] == f"{'1' * 40}; {'2' * 40}"
    assert (found["hardware.cpu"], found["versions.torch"]) == ("a; b", "2.13.0")
