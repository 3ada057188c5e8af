"""When a stage saves a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.cache.checkpoints import StageCheckpoints


def test_a_checkpoint_is_due_when_the_interval_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("tasks.cache.checkpoints.time.monotonic", lambda: now)
    kept = StageCheckpoints(tmp_path / "of-a-stage", "width", 300.0, None, False)
    assert not kept.due(1)
    now += 299.0
    assert not kept.due(2)
    now += 1.0
    assert kept.due(3)
    kept.save(3, 10, lambda folder: (folder / "weights").touch() or None)
    now += 299.0
    assert not kept.due(4)
    now += 1.0
    assert kept.due(5)


def test_it_is_due_after_so_many_units_as_well(tmp_path: Path) -> None:
    kept = StageCheckpoints(tmp_path / "of-a-stage", "width", 300.0, 4, False)
    assert [unit for unit in range(10) if kept.due(unit)] == [4, 5, 6, 7, 8, 9]
