"""Methods of compression beside each other in a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from made_records import make_records

from flows.grids.records import load
from flows.reports.build import build
from flows.reports.methods import method_table
from flows.reports.records import report_records


def test_methods_are_put_beside_each_other(tmp_path: Path) -> None:
    folder = make_records(tmp_path / "methods", "methods", rows=60)
    report = build(report_records([load(folder)]))
    (table,) = (table for table in report.tables if table.name == "methods")
    frame = table.frame.set_index("configuration")
    methods = ["kcm", "stat", "stat", "stat", "magnitude", "magnitude", "rosita"]
    assert frame["method"].tolist() == methods
    trained = {"stat, 0.3-kd": "by the teacher", "rosita, 0.3": "while cut"}
    assert frame["recovered"].to_dict() == {name: trained.get(name, "no") for name in frame.index}
    assert frame["labels"].tolist() == ["no"] * 7
    assert frame["rows"].to_dict() == {
        name: "all" if name in trained else "at most 2,048" for name in frame.index
    }
    cells = load(folder).cells.groupby("axis.method")["score"].mean()
    assert frame.loc["kcm, 0.5", "score"] == pytest.approx(cells["kcm"])
    assert (frame["seconds"] > 0).all()
    (plot,) = (plot for plot in report.plots if plot.name == "methods_macs")
    (legend,) = plot.draw().legends
    assert [text.get_text() for text in legend.get_texts()] == [
        *("kcm", "stat", "magnitude", "rosita")
    ]


def test_methods_are_compared_at_one_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were trained afterwards among each other, and those that were not."""
    monkeypatch.setattr("flows.reports.headline.LISTED", 4)
    kept = load(make_records(tmp_path / "methods", "methods", rows=200))
    report = build(report_records([kept]))
    frame = next(table.frame for table in report.tables if table.name == "differences")
    pairs = {frozenset(pair) for pair in zip(frame["a"], frame["b"], strict=True)}
    assert len(frame) == len(pairs)
    assert pairs == {
        frozenset({"kcm, 0.5", "stat, 0.5"}),
        frozenset({"kcm, 0.5", "magnitude, 0.5"}),
        frozenset({"stat, 0.5", "magnitude, 0.5"}),
        frozenset({"stat, 0.3", "magnitude, 0.3"}),
        frozenset({"stat, 0.3-kd", "rosita, 0.3"}),
    }
    # Where there are many comparisons, a sentence for each that is above another says the same.
    (section,) = (one for one in report.sections if one.title == "Which differ")
    said = {text.split(". ")[0]: text for text in section.text}
    assert list(said) == frame["a"].unique().tolist()
    assert frame["told_apart"].nunique() == 2
    for row in frame.to_dict("records"):
        above, _, others = said[row["a"]].partition("Not told apart from: ")
        assert (f"{row['b']} (" in above) == row["told_apart"]
        assert (row["b"] in others.rstrip(".").split("; ")) != row["told_apart"]


def test_one_method_alone_is_no_comparison_of_methods(records: Path) -> None:
    report = build(report_records([load(records / "kd-settings")]))
    assert "methods" not in [table.name for table in report.tables]
    assert "methods_macs" not in [plot.name for plot in report.plots]


def test_a_method_takes_its_own_time_and_reads_what_it_ranks_by(tmp_path: Path) -> None:
    records = load(make_records(tmp_path, "methods"))
    cell = records.cells["cell"].iloc[0]
    before = method_table(report_records([records]))
    further = records.stages[records.stages["cell"] == cell].iloc[:1]
    further = further.assign(stage="further", seconds=600.0, key="f" * 64)
    stages = pd.concat([records.stages, further], ignore_index=True)
    after = method_table(report_records([replace(records, stages=stages)]))
    assert before is not None
    assert after is not None
    assert before.frame["seconds"].tolist() == after.frame["seconds"].tolist()

    def labels(kd: str, rank: str | None) -> str:
        changed = {
            name: one | {"kd_setting": kd, "compress": one["compress"] | {"rank": rank}}
            if one["method"] == "rosita"
            else one
            for name, one in records.grid["recipes"].items()
        }
        grid = records.grid | {"recipes": changed}
        table = method_table(report_records([replace(records, grid=grid)]))
        assert table is not None
        said = table.frame.set_index("method")["labels"]
        return str(said["rosita"])

    assert [labels(kd, None) for kd in ("none", "1", "2", "3", "4")] == [
        *("yes", "yes", "no", "no", "no")
    ]
    assert labels("1", "magnitude") == "no"


def test_methods_are_no_kd_settings(tmp_path: Path) -> None:
    """A method keeps the recipe's setting, which says nothing of it."""
    grid = load(make_records(tmp_path / "kd", rows=60, seeds=(42,)))
    assert report_records([grid]).kd_axis is not None
    for name, recipe in grid.grid["recipes"].items():
        recipe["method"] = "kcm" if "/4-" in name else "rosita"
    mixed = report_records([grid])
    assert mixed.kd_axis is None
    assert not any("setting 4" in name for name in mixed.configurations)


def test_methods_of_two_grids_are_told_apart(tmp_path: Path) -> None:
    folders = [
        make_records(tmp_path / task, "methods", task, seeds=(42,), rows=60)
        for task in ("sst2", "cola")
    ]
    table = method_table(report_records([load(folder) for folder in folders]))
    assert table is not None
    assert [column.title for column in table.shown][:2] == ["grid and task", "configuration"]
    assert "accuracy / mcc" in [column.title for column in table.shown]
    assert table.frame["family"].nunique() == 2
