"""A disk without room for what is recorded: the stage goes on, and is told of it once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from small_disk import small_disk

from tasks.tracking.runs import Tracking

POINTS = 2000


def test_no_room_in_the_store(
    tmp_path: Path,
    mlflow_tables: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = tmp_path / "home"
    with small_disk(home, 8) as disk:
        shutil.copy(mlflow_tables, home / "mlflow.db")
        tracking = Tracking(home)
        run = tracking.start_parent("sst2", "demo", {}, 3, None, None)
        assert tracking.flush(60)
        disk.fill(leave=0)
        for step in range(POINTS):
            tracking.log_metrics(run, step, {"train/loss": 1.0})
        assert not tracking.flush(5)
        later = tracking.start_parent("sst2", "later", {}, 3, None, None)
        tracking.finish(later, "FINISHED", {}, {})
        assert not tracking.flush(5)
        assert tracking.run_id(later) is None
        said = [one.message for one in caplog.records if "MLflow's store" in one.message]
        assert len(said) == 1
        assert "lost if the process ends" in said[0]
        assert "full" in said[0] or "No space left on device" in said[0]

        disk.free()
        tracking.finish(run, "FINISHED", {}, {})
        # The first tries may still come too early.
        assert any(tracking.flush(60) for _ in range(60))
        store = MlflowClient(tracking_uri=tracking.uri)
        curve = store.get_metric_history(run, "train/loss")
        assert sorted(point.step for point in curve) == list(range(POINTS))
        assert {store.get_run(one).info.status for one in (run, later)} == {"FINISHED"}
