"""A disk without room for what is recorded: the stage goes on, and is told of it once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from serving import free_ports
from small_disk import small_disk

from tasks.tracking.runs import Tracking

POINTS = 2000


def test_no_room_in_the_outbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Nothing is sent, so that everything stays in the journals.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "weights").write_bytes(bytes(10_000))
    home = tmp_path / "home"
    with small_disk(home, 1) as disk:
        tracking = Tracking(home)
        run = tracking.start_parent("sst2", "demo", {}, 3, None, None)
        disk.fill(leave=0)
        for step in range(POINTS):
            tracking.log_metrics(run, step, {"train/loss": 1.0})
        tracking.log_model(run, "rosita-sst2", checkpoint, None, {}, {})
        unopened = tracking.start_parent("sst2", "later", {}, 3, None, None)
        tracking.log_metrics(unopened, 0, {"train/loss": 1.0})
        tracking.log_model(unopened, "rosita-sst2", checkpoint, None, {}, {})
        tracking.finish(unopened, "FINISHED", {}, {})
        assert tracking.run_id(unopened) is None
        said = [record.message for record in caplog.records if "outbox" in record.message]
        assert len(said) == 1
        assert "cannot be written" in said[0]
        assert "No space left on device" in said[0]

        disk.free()
        tracking.finish(run, "FINISHED", {}, {})
        (path,) = (home / "outbox").glob("*.jsonl")
        assert path.stem == run
        operations = [json.loads(line) for line in path.read_text().splitlines()]
        steps = [one["step"] for one in operations if one["op"] == "metrics"]
        assert steps == list(range(POINTS))
        assert operations[-1]["op"] == "terminate"
        # Nothing else of the run that could not be opened.
        assert list((home / "outbox").glob(".*")) == []
