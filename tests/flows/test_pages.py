"""The pages that `rosita ui` serves, seen with a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browser import needs_browser, wide_page
from playwright.sync_api import Page, expect
from serving import Serving
from typed_command import Home

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with wide_page() as page:
        yield page


def test_mlflow_shows_the_experiment_and_the_run(
    page: Page, servers: Serving, smoke_home: Home
) -> None:
    [address] = re.findall(r"rosita-smoke: (\S+)", servers.printed)
    page.goto(address)
    expect(page.get_by_role("link", name="rosita-smoke").first).to_be_visible()
    page.get_by_role("link", name=smoke_home.summary["name"], exact=True).first.click()
    expect(page.get_by_text(smoke_home.summary["mlflow_run_id"]).first).to_be_visible()
    expect(page.get_by_role("heading", name=smoke_home.summary["name"]).first).to_be_visible()


def test_mlflow_shows_the_artifacts(page: Page, servers: Serving, smoke_home: Home) -> None:
    [runs] = re.findall(r"rosita-smoke: (\S+)\?", servers.printed)
    page.goto(f"{runs}/{smoke_home.summary['mlflow_run_id']}/artifacts")
    page.get_by_text("summary.json").first.click()
    expect(page.get_by_text(smoke_home.summary["run_id"]).first).to_be_visible()


def test_prefect_shows_the_flow_run(page: Page, servers: Serving, smoke_home: Home) -> None:
    page.goto(f"{servers.url('prefect')}/runs")
    expect(page.get_by_text(smoke_home.summary["name"], exact=True).first).to_be_visible()
    expect(page.get_by_text("Completed").first).to_be_visible()
