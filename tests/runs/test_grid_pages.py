"""A grid on MLflow's pages in a real browser, and its report from the same home."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browser import needs_browser, wide_page
from command_line import rosita
from grid_homes import CELLS, GridHome
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from playwright.sync_api import Page, expect
from serving import Serving, serving
from typed_command import Home

# MLflow draws each curve twice, as it is and smoothed (by nothing unless one asks).
DRAWN = 2


@pytest.fixture(scope="module")
def home(grid_home: GridHome, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home of the grid for commands and servers."""
    prefect = tmp_path_factory.mktemp("prefect")
    return Home(grid_home.home, prefect, grid_home.finished.document)


@pytest.fixture(scope="module")
def cells(home: Home) -> dict[str, Run]:
    """The runs of the cells below the grid's run that finished."""
    client = MlflowClient(f"sqlite:///{home.home / 'mlflow.db'}")
    experiment = client.get_run(home.summary["mlflow_run_id"]).info.experiment_id
    below = f"tags.`mlflow.parentRunId` = '{home.summary['mlflow_run_id']}'"
    return {run.data.tags["rosita.cell"]: run for run in client.search_runs([experiment], below)}


@pytest.fixture(scope="module")
def mlflow(home: Home) -> Iterator[Serving]:
    with serving(home, "--no-prefect") as running:
        yield running


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with wide_page() as page:
        yield page


def address(server: Serving, route: str, runs: list[Run], **parameters: Any) -> str:
    """Of a page about several runs."""
    named = {
        "runs": [run.info.run_id for run in runs],
        "experiments": sorted({run.info.experiment_id for run in runs}),
        **parameters,
    }
    query = "&".join(f"{name}={quote(json.dumps(value))}" for name, value in named.items())
    return f"{server.url('mlflow')}/#/{route}?{query}"


def cells_page(server: Serving, cells: dict[str, Run], **parameters: str) -> str:
    """Of the cells in their experiment, without the grid and the stages."""
    [experiment] = {run.info.experiment_id for run in cells.values()}
    named = {
        "searchFilter": 'tags.`rosita.grid` = "smoke-grid"',
        # By time, MLflow folds them below the grid.
        "orderByKey": "metrics.`score`",
        **parameters,
    }
    query = "&".join(f"{name}={quote(value)}" for name, value in named.items())
    return f"{server.url('mlflow')}/#/experiments/{experiment}/runs?{query}"


@needs_browser
def test_the_experiment_lists_the_cells_below_the_grid(page: Page, mlflow: Serving) -> None:
    [experiment] = re.findall(r"rosita-smoke: (\S+)", mlflow.printed)
    page.goto(experiment)
    # The one that was killed is there as well, below it.
    grid = page.get_by_role("row").filter(has_text="smoke-grid").first
    expect(grid).to_be_visible()
    grid.get_by_role("button").first.click()
    for name in CELLS:
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()


@needs_browser
def test_the_comparison_of_cells_shows_what_differs(
    page: Page, mlflow: Serving, cells: dict[str, Run]
) -> None:
    page.goto(address(mlflow, "compare-runs", [cells[name] for name in CELLS]))
    expect(page.get_by_text("Comparing 4 Runs from 1 Experiment").first).to_be_visible()
    same = page.get_by_role("row").filter(has_text="assess.batch_size")
    axis = page.get_by_role("row").filter(has_text="axis.kd_setting").first
    seed = page.get_by_role("row").filter(has_text=re.compile("^seed")).first
    expect(same.first).to_be_visible()
    page.get_by_role("switch", name="Show diff only").first.click()
    expect(same).to_have_count(0)
    for row, values in ((axis, "1414"), (seed, "42424343")):
        expect(row).to_be_visible()
        assert "".join(row.inner_text().split()[1:]) == values


@needs_browser
def test_the_curves_of_cells_lie_in_one_chart(
    page: Page, mlflow: Serving, cells: dict[str, Run]
) -> None:
    """Also of cells whose last trainings are different stages, or came from the cache."""
    both = [cells[name] for name in ("1-s42", "4-s43")]
    metric = "train/loss"
    page.goto(address(mlflow, "metric", both, metric=metric, plot_metric_keys=[metric]))
    for run in both:
        expect(page.get_by_text(f"{run.info.run_name} ({metric})").first).to_be_visible()
    lines = page.locator(".scatterlayer path.js-line")
    expect(lines).to_have_count(DRAWN * 2)
    paths = {line.get_attribute("d") or "" for line in lines.all()}
    assert len(paths) == 2
    assert all(len(re.findall("[LHV]", path)) >= 3 for path in paths)


@needs_browser
def test_the_page_of_charts_has_the_cells_and_their_curves(
    page: Page, mlflow: Serving, cells: dict[str, Run]
) -> None:
    page.goto(cells_page(mlflow, cells, compareRunsMode="CHART"))
    for name in CELLS:
        expect(page.get_by_role("link", name=name, exact=True).first).to_be_visible()
    for section, charts in (("train", 2), ("stage/width", 4), ("stage/one-step", 4)):
        heading = re.compile(rf"^{section}\s*\({charts}\)")
        expect(page.get_by_role("figure").filter(has_text=heading)).to_be_attached()


def test_a_grid_that_has_run_is_reported_from_its_home(
    home: Home, mlflow: Serving, tmp_path: Path
) -> None:
    place = home.home
    done = rosita("report", "--grid", "smoke-grid", "--out", str(tmp_path), "--json", home=place)
    assert done.code == 0, done.stderr[-2000:]
    document = done.document
    results = {row["configuration"]: row for row in document["tables"]["results"]}
    assert set(results) == {"setting 1", "setting 4", "teacher"}
    for setting in ("1", "4"):
        mine = [c for c in home.summary["cells"] if c["labels"]["kd_setting"] == setting]
        mean = sum(cell["score"] for cell in mine) / len(mine)
        assert results[f"setting {setting}"]["score"] == pytest.approx(mean)
    plots = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert {"scores", "curves_width", "curves_one_step", "heads", "stage_times"} <= plots
    # What was collected from the home is kept, and says the same again.
    again = tmp_path / "again"
    kept = str(tmp_path / "records")
    arguments = ("--out", str(again), "--format", "markdown")
    repeated = rosita("report", "--records", kept, *arguments, home=place)
    assert repeated.code == 0, repeated.stderr[-2000:]
    # But for the link to the runs, of which records that may be anywhere know nothing.
    page = f"{mlflow.url('mlflow')}/#/runs/{home.summary['mlflow_run_id']}"
    link = f"[smoke-grid at MLflow]({page})\n\n"
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert report.count("](http") == report.count(link) == 1
    assert (again / "report.md").read_text(encoding="utf-8") == report.replace(link, "")
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f'<a href="{page}">smoke-grid at MLflow</a>' in written
    none = str(tmp_path / "none")
    refused = rosita("report", "--grid", "kd-settings", "--out", none, home=place)
    assert refused.code == 2
    assert "grid must be one that has run" in refused.stderr
