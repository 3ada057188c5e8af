"""`rosita report`: the same every time, and the same number in every format."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import Done, rosita
from made_records import published
from quoted import markdown_tables

from flows.grids.records import load, save_all
from flows.reports.build import report_for_prefect
from flows.reports.page import page
from flows.reports.parts import Plot, Report, Section, Table, number_column, text_column
from rosita_core.measuring.significance.comparison import spread

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def written(records: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The report on the KD settings, in all formats, and what the command said."""
    out = tmp_path_factory.mktemp("report") / "new" / "folder"
    done = rosita("report", "--records", str(records / "kd-settings"), "--out", str(out), home=out)
    assert done.code == 0, done.stderr
    return out, done


def test_all_formats_are_written(written: tuple[Path, Done]) -> None:
    out, done = written
    names = {path.name for path in out.iterdir()}
    assert names == {".report.json", "report.md", "report.html", "tables", "plots"}
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
    page = html.unescape((out / "report.html").read_text())
    for table in markdown_tables((out / "report.md").read_text()).values():
        for row in table:
            for text in row.values():
                assert f">{text}</" in page
    folder = str(records / "kd-settings")
    done = rosita("report", "--records", folder, "--out", str(out), "--json", home=out)
    document = done.document
    assert document["missing"] == {}
    assert all(Path(path).is_file() for path in document["files"])
    results = pd.read_parquet(out / "tables" / "results.parquet")
    assert [row["score"] for row in document["tables"]["results"]] == results["score"].tolist()


def test_the_same_records_give_the_same_bytes(
    written: tuple[Path, Done], records: Path, tmp_path: Path
) -> None:
    """A report is a function of the records, whichever formats are asked for."""
    assert published(records / "kd-settings", tmp_path).code == 0
    first, again = _files(written[0]), _files(tmp_path)
    assert {"report.md", "plots/scores.png", "tables/results.csv"} <= set(again)
    assert again == {name: first[name] for name in again}


def test_a_second_report_leaves_nothing_of_the_first(
    written: tuple[Path, Done], records: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(written[0], out)
    assert (out / "plots" / "curves_one_step.png").exists()
    own = [out / name for name in ("notes.txt", "plots/photo.png", "tables/rows.csv")]
    for path in own:
        path.write_text("mine")
    published(records / "architecture", out)
    assert not (out / "plots" / "curves_one_step.png").exists()
    assert (out / "plots" / "scores.png").read_bytes().startswith(PNG)
    assert [path.read_text() for path in own] == ["mine"] * 3


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
    empty = '{"definition": {}, "seeds": [], "recipes": {}, "missing": {}}'
    for wrong in ("{", "{}", "[]", '{"definition": {}, "seeds": 1}', empty):
        (tmp_path / "grid.json").write_text(wrong)
        done = rosita("report", "--records", str(tmp_path), "--out", str(tmp_path), home=tmp_path)
        assert (done.code, done.stderr.count("\n")) == (2, 1), wrong
        assert "grid.json" in done.stderr


def _dtypes(path: Path) -> Any:
    frame = pd.read_parquet(path)
    return {name: str for name in frame if not pd.api.types.is_numeric_dtype(frame[name])}


def _files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_names_are_texts_in_the_page_whatever_they_look_like() -> None:
    name = "<script>alert(1)</script>\" onload='x' {{ 7 * 7 }} &amp;"
    frame = pd.DataFrame({"a": [name, name], "b": [0.5, None]})
    shown = (text_column(name, "a"), number_column(name, "b", lambda value: f"{name}{value}"))
    table = Table("t", name, name, frame, shown)
    plot = Plot("p", name, name, lambda: pytest.fail("it is drawn already"))
    report = Report(name, (name,), (Section(name, (name,), (table, plot)),), {})
    text = page(report, {"p": "<svg/>"})
    assert text.count("<script>") == 1 and "onload='x'" not in text
    # Its name stands 19 times, in headings, cells, attributes and captions.
    assert html.unescape(text).count(name) == 19
