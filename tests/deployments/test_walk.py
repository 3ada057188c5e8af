"""The walk of deployments/README.md, as an operator types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from walks import needs_ports, typed_walk

from tasks.cache.records import attempts

pytestmark = [pytest.mark.deployments, needs_ports]


def test_from_nothing_to_a_scheduled_run(tmp_path: Path) -> None:
    with typed_walk("deployments/README.md", "## One machine", tmp_path) as said:
        home = tmp_path / ".rosita"
        ended = [(made["status"], "resumed_from" in made) for made in attempts(home, "width")]
        assert ended == [("completed", False), ("interrupted", False), ("completed", True)]
        assert [made["status"] for made in attempts(home, "depth")] == ["completed"] * 2
        assert "True" in said[-1], "the schedule is on"
