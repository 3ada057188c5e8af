"""Results of stages that nobody computed, for tests of what lies around them."""

from __future__ import annotations

from tasks.cache.documents import StageResult

TIME = "2026-01-01T00:00:00+00:00"


def stage_result(stage: str, key: str, artifact: str) -> StageResult:
    """The result of a stage."""
    return StageResult(
        stage=stage,
        key=key,
        artifact=artifact,
        metrics={"score": 0.5, "shape": "a2"},
        seconds=1.5,
        attempt=1,
        mlflow_run_id=None,
        finished_at=TIME,
    )
