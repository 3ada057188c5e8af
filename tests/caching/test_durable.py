"""What replaces something is on disk before it takes the place of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.cache.checkpoints import StageCheckpoints
from tasks.cache.records import record_to_disk
from tasks.home import Home
from tasks.store.artifacts import Store, write_json


class Observed:
    """What reached the disk, in order: inodes that were synced, and the names of renames.

    The system does both all the same.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[int | str] = []
        for name in ("rename", "replace"):
            monkeypatch.setattr(os, name, self._noted(getattr(os, name)))
        sync = os.fsync

        def fsync(descriptor: int) -> None:
            sync(descriptor)
            self.events.append(os.fstat(descriptor).st_ino)

        monkeypatch.setattr(os, "fsync", fsync)

    def _noted(self, move: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
        def moved(source: Path, target: Path) -> None:
            move(source, target)
            self.events.append(Path(target).name)

        return moved

    def before(self, name: str) -> set[int | str]:
        return set(self.events[: self.events.index(name)])

    def after(self, name: str) -> set[int | str]:
        return set(self.events[self.events.index(name) :])


def inodes(folder: Path) -> set[int]:
    return {path.stat().st_ino for path in (folder, *folder.rglob("*"))}


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> Observed:
    return Observed(monkeypatch)


def fill(folder: Path) -> None:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "vocab.txt").write_text("a")
    (folder / "weights.bin").write_bytes(b"0123")


def test_an_artifact(observed: Observed, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.workspace() as folder:
        fill(folder)
        digest = store.adopt(folder)
    whole = inodes(store.root / digest)
    assert len(whole) == 6
    assert whole <= observed.before(digest)
    assert store.root.stat().st_ino in observed.after(digest)


def test_a_checkpoint(observed: Observed, tmp_path: Path) -> None:
    checkpoints = StageCheckpoints(tmp_path / "of-a-stage", "width", 300, None, False)
    path = checkpoints.save(1, 2, fill).parent
    assert inodes(path) <= observed.before(path.name)
    assert checkpoints.folder.stat().st_ino in observed.after(path.name)


def test_json(observed: Observed, tmp_path: Path) -> None:
    write_json(tmp_path / "record.json", {"a": 1})
    assert (tmp_path / "record.json").stat().st_ino in observed.before("record.json")


def test_a_record(observed: Observed, tmp_path: Path) -> None:
    folder = Home(tmp_path).results
    folder.mkdir()
    with pytest.raises(FileNotFoundError):
        record_to_disk(tmp_path, "k")
    (folder / "k").write_text("{}")
    record_to_disk(tmp_path, "k")
    assert inodes(folder) <= set(observed.events)
