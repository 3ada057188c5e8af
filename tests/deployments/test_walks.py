"""The walks of the READMEs, as new users type them: own rows, a first grid, a server."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from walks import typed_walk

from tasks.cache.records import attempts

pytestmark = pytest.mark.deployments


def test_from_a_csv_to_a_graph_without_pytorch(tmp_path: Path) -> None:
    with typed_walk("README.md", "## Your own model and data", tmp_path) as said:
        [summary] = (tmp_path / ".rosita" / "runs").glob("*/summary.json")
        document = json.loads(summary.read_text(encoding="utf-8"))
        assert {stage["status"] for stage in document["stages"]} == {"completed"}
        # Rows as these are learnt by whoever learns at all.
        assert set(document["gate"].values()) == {None}
        assert "good" in said[-1]
        answers = (tmp_path / "answers.csv").read_text(encoding="utf-8").splitlines()
        rows = (tmp_path / "reviews.csv").read_text(encoding="utf-8").splitlines()
        assert len(answers) == len(rows)
        assert (tmp_path / "model" / "model.safetensors").is_file()


@pytest.mark.usefixtures("free_ports")
def test_a_first_grid(tmp_path: Path) -> None:
    with typed_walk("README.md", "### A first grid", tmp_path):
        assert (tmp_path / "report" / "report.md").is_file()
        assert httpx.get("http://127.0.0.1:5000/").status_code == 200


@pytest.mark.usefixtures("free_ports")
def test_from_nothing_to_a_scheduled_run(tmp_path: Path) -> None:
    with typed_walk("deployments/README.md", "## One machine", tmp_path) as said:
        home = tmp_path / ".rosita"
        ended = [
            (made["status"], made["resumed_from"] is not None) for made in attempts(home, "width")
        ]
        assert ended == [("completed", False), ("interrupted", False), ("completed", True)]
        assert [made["status"] for made in attempts(home, "depth")] == ["completed"] * 2
        assert "True" in said[-1], "the schedule is on"
