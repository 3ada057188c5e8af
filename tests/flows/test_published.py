"""What is published: pages by hand quote the reports, and `make report-check` sees a change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from made_records import make_records, published
from published_reports import RESULTS, differences
from quoted import markdown_tables, marks, wrong_quotes

from flows.grids.records import load
from flows.reports.heads import head_plots
from flows.reports.plots import time_plot
from flows.reports.records import report_records

ROOT = Path(__file__).parents[2]
BY_HAND = ("README.md", "tests/bench/results/README.md")


def test_pages_by_hand_quote_the_published_reports() -> None:
    for name in BY_HAND:
        page = (ROOT / name).read_text(encoding="utf-8")
        assert wrong_quotes(page, RESULTS) == [], name
        assert marks(page), f"{name} quotes nothing from {RESULTS}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results with one published grid, made up."""
    folder = tmp_path_factory.mktemp("results")
    make_records(folder / "kd" / "records", rows=60)
    assert published(folder / "kd" / "records", folder / "kd").code == 0
    return folder


def test_another_number_anywhere_is_noticed(made: Path, tmp_path: Path) -> None:
    again = made / "kd"
    folder = tmp_path / "kd"
    shutil.copytree(again, folder)
    assert differences(folder, again) == []
    report, table = folder / "report.md", folder / "tables" / "results.csv"
    report.write_text(report.read_text().replace("7.51x", "7.52x", 1))
    score = pd.read_csv(table)["score"].iloc[0]
    table.write_text(table.read_text().replace(str(score), str(score + 0.001)))
    (folder / "plots" / "scores.png").unlink()
    frame = pd.read_parquet(folder / "tables" / "cells.parquet")
    frame.assign(score=frame["score"] + 0.001).to_parquet(folder / "tables" / "cells.parquet")
    assert differences(folder, again) == [
        *("report.md", "plots/*.png", "tables/results.csv", "tables/cells.parquet")
    ]


def test_quotes_are_held_against_the_reports(made: Path) -> None:
    rows = markdown_tables((made / "kd" / "report.md").read_text(encoding="utf-8"))["Results"]
    cells = {row["configuration"]: row for row in rows}
    best, none = cells["setting 4"], cells["no distillation"]
    mean = best["accuracy"].partition(" ")[0]
    table = (
        "<!-- kd | Results -->\n| configuration | kept | accuracy |\n|---|---:|---|\n"
        f"| setting 4 | {best['kept']} | {best['accuracy']} |\n"
        f"| no distillation | {none['kept']} | {none['accuracy']} |\n\nText.\n"
    )
    here = "<!-- kd | Results | setting 4 | accuracy -->"
    right = f"It reaches **{mean}**{here} ({best['accuracy']}{here}).\n\n{table}"
    assert marks(right) == 3
    assert wrong_quotes(right, made) == []
    for page, said in (
        (f"It reaches 1{mean}{here}.", "the report says"),
        (f"It reaches 0.1234{here}.", "the report says"),
        (table.replace(none["kept"], "99.9 %"), "no distillation, kept: 99.9 % here"),
        (table.replace("| setting 4", "| setting 5"), "setting 5, kept"),
        ("<!-- kd | Results -->\n\nText", "no table follows"),
        (f"{mean}<!-- kd | Results | setting 9 | accuracy -->", "no such cell"),
        (f"{mean}<!-- none | Results | setting 4 | accuracy -->", "no table Results in none"),
    ):
        wrong = wrong_quotes(page, made)
        assert wrong, page
        assert said in wrong[0]


@pytest.mark.parametrize(
    ("name", "said"), [("kd4-demo", "seed, the first 3 of 5."), ("kd4-demo-h100", "seed.")]
)
def test_a_plot_with_a_column_per_seed_says_how_many_there_are(name: str, said: str) -> None:
    records = report_records([load(RESULTS / name / "records")])
    (plot,) = head_plots(records, records.families[0], "")
    assert plot.caption.endswith(f"A column per {said}")


@pytest.mark.parametrize("name", sorted(path.parent.name for path in RESULTS.glob("*/records")))
def test_no_two_stages_of_a_plot_have_one_colour(name: str) -> None:
    figure = time_plot(report_records([load(RESULTS / name / "records")])).draw()
    (legend,) = figure.legends
    colours = [patch.get_facecolor() for patch in legend.get_patches()]
    assert len(set(colours)) == len(colours) == len(legend.get_texts())
