"""`rosita report`: all from the records, the same every time, and the same number everywhere."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import Done, rosita
from made_records import SEEDS, make_records, published
from quoted import markdown_tables

from flows.grids.definition import Grid
from flows.grids.loading import load_grid
from flows.grids.records import load, save_all
from flows.reports import curves as report_curves
from flows.reports.build import build, report_for_prefect
from flows.reports.headline import environment
from flows.reports.records import report_records
from rosita_core.measuring.significance.comparison import spread

PNG = b"\x89PNG\r\n\x1a\n"
ROWS = 300


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per grid."""
    folder = tmp_path_factory.mktemp("records")
    for grid, unfinished in (("kd-settings", 0), ("architecture", 1), ("pruning-frequency", 0)):
        make_records(folder / grid, grid, rows=ROWS, unfinished=unfinished)
    make_records(folder / "kd-settings-cola", "kd-settings", "cola", rows=ROWS)
    return folder


@pytest.fixture(scope="module")
def written(records: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The report on the KD settings, in all formats, and what the command said."""
    out = tmp_path_factory.mktemp("report") / "new" / "folder"
    done = rosita("report", "--records", str(records / "kd-settings"), "--out", str(out), home=out)
    assert done.code == 0, done.stderr
    return out, done


def tables_of(*folders: Path) -> dict[str, pd.DataFrame]:
    """The tables of a report by name, without its plots being drawn."""
    report = build(report_records([load(folder) for folder in folders]))
    return {table.name: table.frame for table in report.tables}


def test_all_formats_are_written(written: tuple[Path, Done]) -> None:
    out, done = written
    names = {path.name for path in out.iterdir()}
    assert names == {"report.md", "report.html", "tables", "plots"}
    tables = {path.name for path in (out / "tables").iterdir()}
    stems = {"results", "kd_strategies", "differences", "against_teacher", "stages", "cells"}
    assert {f"{stem}.{form}" for stem in stems for form in ("csv", "parquet")} <= tables
    linked = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (out / "report.md").read_text())
    assert sorted(linked) == sorted(f"plots/{path.name}" for path in (out / "plots").iterdir())
    for path in (out / "plots").iterdir():
        assert path.read_bytes().startswith(PNG)
    assert done.stdout.startswith("Setting 4 keeps ")
    assert f"wrote {out / 'report.html'}" in done.stdout


def test_the_numbers_in_the_markdown_are_those_of_the_records(
    written: tuple[Path, Done], records: Path
) -> None:
    out, _ = written
    rows = markdown_tables((out / "report.md").read_text())["Results"]
    cells = pd.read_parquet(records / "kd-settings" / "cells.parquet")
    settings = ("none", "1", "2", "3", "4")
    for row, setting in zip(rows[:-1], settings, strict=True):
        mine = cells[cells["kd_setting"] == setting]
        found = spread(mine["score"].tolist())
        assert row["accuracy"] == f"{found.mean:.3f} ± {found.sd:.3f}"
        assert row["kept"] == f"{100 * mine['retention'].mean():.1f} %"
        assert row["parameters"] == f"{mine['params'].iloc[0]:,}"
        assert row["batch 32"] == f"{mine['latency_ms_p50_b32'].mean():.1f} ms"
    teacher = cells.drop_duplicates("seed")["teacher_score"]
    assert rows[-1]["accuracy"] == f"{teacher.mean():.3f} ± {teacher.std(ddof=1):.3f}"


def test_markdown_csv_parquet_json_and_page_hold_the_same(
    written: tuple[Path, Done], records: Path
) -> None:
    out, _ = written
    for path in (out / "tables").glob("*.parquet"):
        pd.testing.assert_frame_equal(
            pd.read_parquet(path).reset_index(drop=True),
            pd.read_csv(path.with_suffix(".csv"), dtype=_dtypes(path), keep_default_na=True),
            check_dtype=False,
        )
    page = (out / "report.html").read_text()
    for table in markdown_tables((out / "report.md").read_text()).values():
        for row in table:
            for text in row.values():
                assert f">{text.replace('<', '&lt;').replace(chr(39), '&#x27;')}</" in page
    folder = str(records / "kd-settings")
    done = rosita("report", "--records", folder, "--out", str(out), "--json", home=out)
    document = done.document
    assert document["missing"] == {}
    assert all(Path(path).is_file() for path in document["files"])
    results = pd.read_parquet(out / "tables" / "results.parquet")
    assert [row["score"] for row in document["tables"]["results"]] == results["score"].tolist()


def _dtypes(path: Path) -> Any:
    frame = pd.read_parquet(path)
    return {name: str for name in frame if not pd.api.types.is_numeric_dtype(frame[name])}


def test_the_same_records_give_the_same_bytes(
    written: tuple[Path, Done], records: Path, tmp_path: Path
) -> None:
    """A report is a function of the records, whichever formats are asked for."""
    assert published(records / "kd-settings", tmp_path).code == 0
    first, again = _files(written[0]), _files(tmp_path)
    assert {"report.md", "plots/scores.png", "tables/results.csv"} <= set(again)
    assert again == {name: first[name] for name in again}


def _files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_second_report_leaves_nothing_of_the_first(
    written: tuple[Path, Done], records: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(written[0], out)
    assert (out / "plots" / "curves_one_step.png").exists()
    (out / "notes.txt").write_text("mine")
    published(records / "architecture", out)
    assert not (out / "plots" / "curves_one_step.png").exists()
    assert (out / "plots" / "scores.png").read_bytes().startswith(PNG)
    assert (out / "notes.txt").read_text() == "mine"


def test_records_of_earlier_reports_are_replaced(records: Path, tmp_path: Path) -> None:
    kept, out = (
        {name: load(records / name) for name in ("kd-settings", "kd-settings-cola")},
        tmp_path,
    )
    save_all({"kd-settings": kept["kd-settings"]}, out)
    (out / "notes.txt").write_text("mine")
    save_all(kept, out)
    assert {path.name for path in out.iterdir()} == {*kept, "notes.txt"}
    done = rosita("report", "--records", str(out), "--out", str(out / "a"), "--json", home=out)
    assert done.code == 0, done.stderr
    assert {row["family"] for row in done.document["tables"]["results"]} == {
        "kd-settings-sst2 on sst2",
        "kd-settings-cola on cola",
    }
    save_all({"kd-settings-cola": kept["kd-settings-cola"]}, out)
    assert {path.name for path in out.iterdir()} >= {"grid.json", "notes.txt"}
    assert not (out / "kd-settings").exists()
    assert load(out).grid == kept["kd-settings-cola"].grid


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
    first = pairs[(pairs["a"] == "setting 4") & (pairs["b"] == "no distillation")].iloc[0]
    assert first["told_apart"]
    assert first["in_words"].endswith("they differ")
    teacher = tables["against_teacher"].set_index("a")
    assert teacher.loc["setting 4", "difference"] == pytest.approx(
        scores["setting 4"] - scores["teacher"]
    )


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


def _command_for(records: Path, grid: Grid) -> str:
    """What a report on the records of `grid` says runs it again."""
    kept = load(records / "kd-settings")
    changed = replace(kept, grid={**kept.grid, "definition": grid.model_dump(mode="json")})
    return dict(environment(report_records([changed])))["command"]


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


def test_records_without_trainings_and_predictions_make_a_report(
    records: Path, tmp_path: Path
) -> None:
    for path in (records / "kd-settings").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name in ("curves", "prunes", "predictions"):
        pd.read_parquet(tmp_path / f"{name}.parquet").iloc[:0].to_parquet(
            tmp_path / f"{name}.parquet"
        )
    out = tmp_path / "out"
    done = rosita("report", "--records", str(tmp_path), "--out", str(out), home=tmp_path)
    assert done.code == 0, done.stderr
    assert {path.stem for path in (out / "plots").iterdir()} == {"scores", "stage_times"}
    assert "Which differ" not in (out / "report.md").read_text()


def test_prefect_gets_text_without_links_and_the_plots(records: Path) -> None:
    text, plots = report_for_prefect(load(records / "pruning-frequency"))
    assert "](" not in text
    assert text.startswith("# Report of pruning-frequency-sst2")
    assert markdown_tables(text)["Results"]
    assert len(plots) >= 5
    assert all(image.startswith(PNG) for _, image in plots)


def test_wrong_requests_say_in_one_line_what_is_wrong(records: Path, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out"))
    kd = str(records / "kd-settings")
    (tmp_path / "file").write_text("")
    (tmp_path / "none").mkdir()
    wrong = {
        ("--records", str(tmp_path / "none"), *out): "records must hold",
        ("--grid", "kd-settings", *out): "grid must be one that has run",
        (*out,): "report must have --grid or --records, got neither",
        ("--grid", "a", "--records", kd, *out): "report must have --grid or --records, got both",
        ("--records", kd, *out, "--format", "pdf"): "format must be one of markdown, html, tables",
        ("--records", kd, "--records", kd, *out): "each cell must be there once",
        ("--records", kd, "--out", str(tmp_path / "file")): "out must be a folder",
    }
    for args, message in wrong.items():
        done = rosita("report", *args, home=tmp_path / "home")
        assert (done.code, done.stdout) == (2, ""), args
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_damaged_records_are_refused(records: Path, tmp_path: Path) -> None:
    for path in (records / "kd-settings").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    cells = pd.read_parquet(tmp_path / "cells.parquet")
    cells.drop(columns="score").to_parquet(tmp_path / "cells.parquet")
    done = rosita("report", "--records", str(tmp_path), "--out", str(tmp_path), home=tmp_path)
    assert done.code == 2
    assert "cells of the records must have a column score" in done.stderr
    (tmp_path / "grid.json").write_text("{")
    done = rosita("report", "--records", str(tmp_path), "--out", str(tmp_path), home=tmp_path)
    assert done.code == 2
    assert "grid.json" in done.stderr


def test_made_predictions_score_what_their_cells_say(records: Path) -> None:
    """The maker of records itself, or the comparisons above would rest on nothing."""
    cells = pd.read_parquet(records / "kd-settings" / "cells.parquet").set_index("cell")
    rows = pd.read_parquet(records / "kd-settings" / "predictions.parquet")
    right = (rows["label"] == rows["prediction"]).groupby(rows["cell"].astype(str)).mean()
    assert np.allclose(right[cells.index], cells["score"])
    document = json.loads((records / "kd-settings" / "grid.json").read_text())
    assert set(document["recipes"]) == set(cells.index)
