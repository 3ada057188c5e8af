"""What an operator sees of a deployed run, with a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import UUID

import pytest
from browser import needs_browser, wide_page
from deployed_stack import Stack, smoke
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.deployments, needs_browser]

STAGES = ("data", "teacher", "augment", "student", "depth", "width", "assess", "export")


@pytest.fixture(scope="module")
def finished(stack: Stack) -> UUID:
    """A run that is over."""
    with stack.worker("first") as worker:
        run = stack.run("compress/nightly", smoke(seed=1, keep_heads=1))
        done = stack.wait(run, "Completed", "Failed", "Crashed")
    assert done.state is not None and done.state.is_completed(), worker.said()[-3000:]
    return run


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with wide_page() as page:
        yield page


def test_the_form_of_compress_asks_for_what_can_be_chosen(page: Page, stack: Stack) -> None:
    with stack.client() as client:
        nightly = client.read_deployment_by_name("compress/nightly")
    page.goto(f"{stack.api.removesuffix('/api')}/deployments/deployment/{nightly.id}/run")
    for field in ("recipe", "recipe_file", "seed", "keep_heads", "settings", "preflight"):
        expect(page.get_by_text(f"{field} (Optional)", exact=True)).to_be_visible()
    expect(page.get_by_text("attention heads per layer; 0: as in the recipe")).to_be_visible()

    # Sent as it is, but for one field that cannot be right: the form says which.
    numbers = page.locator("input[type=number]")
    numbers.nth(0).fill("-7")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("-7 is less than the minimum of -1").first).to_be_visible()
    numbers.nth(0).fill("5")
    with page.expect_response(lambda response: "create_flow_run" in response.url) as answer:
        page.get_by_role("button", name="Submit").click()
    assert answer.value.status == 201
    made = answer.value.json()
    assert made["parameters"]["seed"] == 5
    with stack.client() as client:
        # No worker runs; a demo would take minutes.
        client.delete_flow_run(UUID(made["id"]))


def test_prefect_shows_the_stages_of_a_run_and_its_artifact(
    page: Page, stack: Stack, finished: UUID
) -> None:
    with page.expect_response(lambda response: "/graph-v2" in response.url) as graph:
        page.goto(f"{stack.api.removesuffix('/api')}/runs/flow-run/{finished}")
    # The graph itself is painted on a canvas; these are the names that it paints.
    nodes = [node["label"] for _, node in json.loads(graph.value.text())["nodes"]]
    assert {*STAGES, "register"} <= set(nodes)
    expect(page.locator("canvas").first).to_be_visible()
    page.get_by_text("Task Runs", exact=True).first.click()
    for stage in (*STAGES, "register"):
        expect(page.get_by_role("link", name=stage, exact=True).first).to_be_visible()
    page.get_by_text("Artifacts", exact=True).last.click()
    expect(page.get_by_text("rosita-comparison").first).to_be_visible()


def test_mlflow_shows_the_same_run(page: Page, stack: Stack, finished: UUID) -> None:
    found = stack.summary(finished)
    experiments = f"http://127.0.0.1:{stack.ports['mlflow']}/#/experiments/1/runs"
    page.goto(f"{experiments}/{found['mlflow_run_id']}")
    expect(page.get_by_text(found["mlflow_run_id"]).first).to_be_visible()
    expect(page.get_by_role("heading", name="smoke").first).to_be_visible()
