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
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from playwright.sync_api import Page, expect
from serving import Serving, serving
from typed_command import Home, run_rosita


@pytest.fixture(scope="module")
def grid_home(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Home:
    """A home in which two cells of the smoke grid have finished."""
    home = tmp_path_factory.mktemp("grid") / "home"
    command = ("grid", "--grid", "smoke-grid", "--seeds", "42", "--json")
    done = run_rosita(command, home, prefect_home)
    assert done.returncode == 0, done.stderr[-3000:]
    return Home(home, prefect_home, json.loads(done.stdout))


@pytest.fixture(scope="module")
def runs(grid_home: Home) -> list[Run]:
    """Everything that MLflow knows."""
    client = MlflowClient(f"sqlite:///{grid_home.home / 'mlflow.db'}")
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


@pytest.fixture(scope="module")
def mlflow(grid_home: Home) -> Iterator[Serving]:
    with serving(grid_home, "--no-prefect") as running:
        yield running


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with wide_page() as page:
        yield page


def cells_of(runs: list[Run]) -> list[Run]:
    return [run for run in runs if "rosita.cell" in run.data.tags]


def address(server: Serving, route: str, runs: list[Run], **parameters: Any) -> str:
    """Of a page about several runs."""
    named = {
        "runs": [run.info.run_id for run in runs],
        "experiments": sorted({run.info.experiment_id for run in runs}),
        **parameters,
    }
    query = "&".join(f"{name}={quote(json.dumps(value))}" for name, value in named.items())
    return f"{server.url('mlflow')}/#/{route}?{query}"


@needs_browser
def test_the_experiment_lists_the_cells_below_the_grid(
    page: Page, mlflow: Serving, runs: list[Run]
) -> None:
    [experiment] = re.findall(r"rosita-film-reviews: (\S+)", mlflow.printed)
    page.goto(experiment)
    grid = page.get_by_role("row").filter(has_text="smoke-grid")
    expect(page.get_by_role("link", name="smoke-grid", exact=True)).to_be_visible()
    grid.get_by_role("button").first.click()
    names = [run.info.run_name for run in cells_of(runs)]
    assert len(set(names)) == 2
    for name in names:
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()


@needs_browser
def test_the_comparison_of_cells_shows_what_differs(
    page: Page, mlflow: Serving, runs: list[Run]
) -> None:
    cells = cells_of(runs)
    page.goto(address(mlflow, "compare-runs", cells))
    expect(page.get_by_text("Comparing 2 Runs from 1 Experiment").first).to_be_visible()
    same = page.get_by_role("row").filter(has_text="assess.batch_size")
    axis = page.get_by_role("row").filter(has_text="axis.kd_setting")
    expect(same.first).to_be_visible()
    expect(axis.first).to_contain_text("4")
    expect(axis.first).to_contain_text("1")
    page.get_by_role("switch", name="Show diff only").first.click()
    expect(same).to_have_count(0)
    expect(axis.first).to_be_visible()


@needs_browser
def test_the_learning_curves_of_cells_lie_in_one_chart(
    page: Page, mlflow: Serving, runs: list[Run]
) -> None:
    last = [run for run in runs if run.data.tags.get("rosita.stage") in ("width", "one-step")]
    assert len(last) == 2
    metric = "train/loss"
    page.goto(address(mlflow, "metric", last, metric=metric, plot_metric_keys=[metric]))
    expect(page.get_by_text("width (train/loss)").first).to_be_visible()
    expect(page.get_by_text("one-step (train/loss)").first).to_be_visible()
    # MLflow draws each curve twice, as it is and smoothed (by nothing unless one asks).
    lines = page.locator(".scatterlayer path.js-line")
    expect(lines).to_have_count(4)
    paths = {line.get_attribute("d") or "" for line in lines.all()}
    assert len(paths) == 2
    assert all(len(re.findall("[LHV]", path)) >= 3 for path in paths)


def test_a_grid_that_has_run_is_reported_from_its_home(grid_home: Home, tmp_path: Path) -> None:
    done = grid_home.run("report", "--grid", "smoke-grid", "--out", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    document = json.loads(done.stdout)
    results = {row["configuration"]: row for row in document["tables"]["results"]}
    assert set(results) == {"setting 1", "setting 4", "teacher"}
    scores = {cell["labels"]["kd_setting"]: cell["score"] for cell in grid_home.summary["cells"]}
    assert results["setting 4"]["score"] == scores["4"]
    assert results["setting 1"]["score"] == scores["1"]
    plots = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert {"scores", "curves_width", "curves_one_step", "heads", "stage_times"} <= plots
    # What was collected from the home is kept, and says the same again.
    again = tmp_path / "again"
    kept = str(tmp_path / "records")
    repeated = grid_home.run("report", "--records", kept, "--out", str(again))
    assert repeated.returncode == 0, repeated.stderr[-2000:]
    assert (again / "report.md").read_bytes() == (tmp_path / "report.md").read_bytes()
    refused = grid_home.run("report", "--grid", "kd-settings", "--out", str(tmp_path / "none"))
    assert refused.returncode == 2
    assert "grid must be one that has run" in refused.stderr
