"""`rosita gc` beside runs and other gcs: what somebody holds or takes into use stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from old_homes import aged, all_of, artifacts, found, gc, keys
from stage_results import stage_result
from typed_command import Home

from flows.maintenance import gc as cleaning
from flows.maintenance.gc import _came_into_use, _drop, find_garbage, free
from tasks.cache.locks import StageLocks
from tasks.cache.records import record_content
from tasks.host.liveness import process_began, this_process
from tasks.store.artifacts import Store
from tasks.store.removal import REMOVED


def test_what_a_running_stage_holds_stays(copied_home: Home) -> None:
    home = copied_home.home
    aged(home, 31)
    path = home / "attempts" / "width" / "000001.json"
    running = json.loads(path.read_text()) | {"key": "1" * 64, **this_process()}
    running["flow_run_id"] = "another"
    del running["result"]
    path.with_name("000002.json").write_text(json.dumps(running | {"status": "running"}))
    (home / "checkpoints" / ("1" * 64)).mkdir(parents=True)
    os.utime(home / "checkpoints" / ("1" * 64), (0, 0))
    # Its inputs and all that they were made of: stages after it read them, too.
    freed = ("width", "assess", "export")
    assert found(home) == {("result", keys(copied_home)[name]) for name in freed} | {
        ("artifact", artifacts(copied_home)[name]) for name in freed
    }
    died = running | {"status": "running", "process_started": -1.0}
    path.with_name("000002.json").write_text(json.dumps(died))
    assert found(home) == all_of(copied_home) | {("checkpoint", "1" * 64)}
    # Another container of the same name, which numbers its processes itself.
    with StageLocks(home / "locks").held("1" * 64, "a stage"):
        assert ("artifact", artifacts(copied_home)["depth"]) not in found(home)


def test_a_running_run_keeps_what_it_has_made_and_used(copied_home: Home) -> None:
    """However long ago: the stage that runs may take weeks, and another one reads it later."""
    home = copied_home.home
    aged(home, 31)
    path = home / "attempts" / "width" / "000001.json"
    record = json.loads(path.read_text()) | {"key": "1" * 64, "status": "running"}
    running = record | this_process()
    path.with_name("000002.json").write_text(json.dumps(running))
    assert found(home) == set()
    # A run that makes nothing of what there is, but took two stages from the cache when it began,
    # before its first attempt.
    running = running | {"flow_run_id": "another"}
    del running["result"]
    running["components"] = running["components"] | {"inputs": {}}
    path.with_name("000002.json").write_text(json.dumps(running))
    assert found(home, days=0) == all_of(copied_home)
    used = ("data", "teacher")
    began = process_began(running)
    assert began is not None
    for name in used:
        os.utime(home / "results" / keys(copied_home)[name], (began + 1, began + 1))
    stays = {("result", keys(copied_home)[name]) for name in used} | {
        ("artifact", artifacts(copied_home)[name]) for name in used
    }
    assert found(home, days=0) == all_of(copied_home) - stays
    # So does what it has stored and has no result of yet.
    digest = artifacts(copied_home)["depth"]
    (home / "results" / keys(copied_home)["depth"]).unlink()
    Store(home).put(Store(home).path(digest))
    assert ("artifact", digest) not in found(home, days=0)


def test_what_another_process_has_locked_stays(copied_home: Home) -> None:
    aged(copied_home.home, 31)
    key, artifact = keys(copied_home)["width"], artifacts(copied_home)["width"]
    locks = StageLocks(copied_home.home / "locks")
    listed = find_garbage(copied_home.home, 30)
    with locks.held(key, "a stage"):
        assert found(copied_home.home) == (
            all_of(copied_home) - {("result", key), ("artifact", artifact)}
        )
        kept = free(listed, copied_home.home, 30)
    assert {one.path.name for one in kept} == {key, artifact}
    assert Store(copied_home.home).verify(artifact) is None


def test_what_comes_into_use_after_it_was_listed_stays(copied_home: Home) -> None:
    aged(copied_home.home, 31)
    listed = find_garbage(copied_home.home, 30)
    os.utime(copied_home.home / "results" / keys(copied_home)["depth"])
    kept = free(listed, copied_home.home, 30)
    assert {one.path.name for one in kept} == {
        keys(copied_home)["depth"],
        artifacts(copied_home)["depth"],
    }


def test_an_artifact_that_is_stored_again_after_it_was_listed_stays(copied_home: Home) -> None:
    home, name = copied_home.home, "depth"
    aged(home, 31)
    digest = artifacts(copied_home)[name]
    listed = {one.path.name: one for one in find_garbage(home, 30)}
    record = home / "results" / keys(copied_home)[name]
    content = record.read_bytes()
    record.unlink()
    assert not _came_into_use(listed[digest], home)
    Store(home).put(Store(home).path(digest))
    assert _came_into_use(listed[digest], home)
    os.utime(listed[digest].path, (0, 0))
    assert not _came_into_use(listed[digest], home)
    # Another stage has a result of the same content now.
    record.write_bytes(content)
    assert not _drop(listed[digest], home)
    assert Store(home).verify(digest) is None


def test_two_at_once(copied_home: Home) -> None:
    home = copied_home.home
    aged(home, 31)
    listed = find_garbage(home, 30)
    assert free(listed, home, 30) == ()
    # The second one finds nothing left of what it had listed, which is what it wanted.
    assert free(listed, home, 30) == ()


def test_four_at_once(copied_home: Home) -> None:
    home = copied_home.home
    store = Store(home)
    for number in range(40):
        with store.workspace() as folder:
            (folder / "a").write_text(str(number))
            digest = store.adopt(folder)
        key = f"{number:064d}"
        (home / "results" / key).write_bytes(record_content(stage_result("s", key, digest)))
        (home / "store" / "tmp" / f"{REMOVED}{number}" / "a" / "b").mkdir(parents=True)
    aged(home, 31)
    barrier = threading.Barrier(4)

    def gc_once() -> None:
        barrier.wait()
        free(find_garbage(home, 30), home, 30)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(gc_once) for _ in range(4)]:
            future.result()
    # What one kept because another was at it goes with the next.
    assert free(find_garbage(home, 30), home, 30) == ()
    assert found(home) == set()
    assert store.digests() == []


@pytest.mark.parametrize("kind", ["result", "damaged copy"])
def test_what_vanishes_while_it_is_listed(
    copied_home: Home, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    home = copied_home.home
    aged(home, 31)
    gone = home / "results" / keys(copied_home)["width"]
    if kind == "damaged copy":
        gone = home / "results" / "damaged" / "abc-1"
        gone.parent.mkdir()
        # Listed by its folder, and not there when it is asked.
        gone.symlink_to(home / "nowhere")
    else:
        read = cleaning.record_names

        def read_and_freed(path: Path) -> tuple[str, str] | None:
            names = read(path)
            if path == gone:
                path.unlink(missing_ok=True)
            return names

        monkeypatch.setattr(cleaning, "record_names", read_and_freed)
    assert (kind, gone.name) not in found(home)


KILLED = """
import os, signal, sys
from pathlib import Path
import tasks.store.removal as removal
delete = removal.delete
def killed(path):
    if path.is_dir() == (sys.argv[2] == "artifact"):
        os.kill(os.getpid(), signal.SIGKILL)
    delete(path)
removal.delete = killed
import flows.maintenance.gc as cleaning
home = Path(sys.argv[1])
cleaning.free(cleaning.find_garbage(home, 30), home, 30)
"""


@pytest.mark.parametrize("kind", ["result", "artifact"])
def test_a_gc_that_was_killed_leaves_a_sound_home(copied_home: Home, kind: str) -> None:
    home = copied_home.home
    aged(home, 31)
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(home), kind],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    store = Store(home)
    assert {store.verify(digest) for digest in store.digests()} == {None}
    left = {name for which, name in found(home) if which == "leftover"}
    assert len(left) == 1
    assert gc(home, "--yes").code == 0
    assert store.digests() == []
    assert list((home / "store" / "tmp").iterdir()) == []
