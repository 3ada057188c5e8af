"""`rosita gc` frees what nobody refers to, says so first, and never what somebody holds."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command_line import Done, rosita
from test_plan import NAMES, everything, planned
from typed_command import ROSITA, Home, environment

from flows.maintenance import gc as cleaning
from flows.maintenance.gc import _came_into_use, _drop, find_garbage, free
from tasks.cache.locks import StageLocks
from tasks.host.liveness import process_began, this_process
from tasks.store.artifacts import Store
from tasks.store.removal import REMOVED

DAY = 86400.0


def gc(home: Path, *args: str) -> Done:
    return rosita("gc", *args, home=home)


def aged(home: Path, days: float) -> None:
    """Everything in the home as if it had been last used so many days ago."""
    then = time.time() - days * DAY
    for path in home.rglob("*"):
        os.utime(path, (then, then))


def keys(home: Home) -> dict[str, str]:
    return {stage["name"]: stage["key"] for stage in home.summary["stages"]}


def artifacts(home: Home) -> dict[str, str]:
    return {stage["name"]: stage["artifact"] for stage in home.summary["stages"]}


def found(home: Path, days: float = 30, now: float | None = None) -> set[tuple[str, str]]:
    return {(one.kind, one.path.name) for one in find_garbage(home, days, now)}


def all_of(home: Home) -> set[tuple[str, str]]:
    results = {("result", key) for key in keys(home).values()}
    return results | {("artifact", digest) for digest in artifacts(home).values()}


def test_what_was_used_lately_stays(smoke_home: Home) -> None:
    before = everything(smoke_home.home)
    done = gc(smoke_home.home, "--yes")
    assert done.code == 0
    assert "nothing to free" in done.stdout
    assert everything(smoke_home.home) == before


def test_a_dry_run_lists_and_frees_nothing(copied_home: Home) -> None:
    aged(copied_home.home, 31)
    before = everything(copied_home.home)
    done = gc(copied_home.home, "--dry-run", "--json")
    assert done.code == 0, done.stderr
    document = done.document
    assert {(one["kind"], Path(one["path"]).name) for one in document["items"]} == (
        all_of(copied_home)
    )
    assert not any(one["freed"] for one in document["items"])
    assert document["bytes"] == sum(one["bytes"] for one in document["items"])
    assert document["bytes_freed"] == 0
    said = gc(copied_home.home, "--dry-run").stdout
    assert "Nothing was freed." in said
    assert f"width {keys(copied_home)['width'][:12]}" in said
    assert everything(copied_home.home) == before


def test_what_is_old_is_freed_and_the_rest_works(copied_home: Home) -> None:
    aged(copied_home.home, 31)
    done = gc(copied_home.home, "--yes")
    assert done.code == 0, done.stderr
    assert "Freed " in done.stdout
    assert Store(copied_home.home).digests() == []
    assert list((copied_home.home / "store" / "tmp").iterdir()) == []
    assert planned(copied_home.home)["data"]["status"] == "to run"
    assert found(copied_home.home) == set()


def test_results_that_were_used_keep_their_artifacts(copied_home: Home) -> None:
    aged(copied_home.home, 31)
    used = ("data", "teacher")
    for name in used:
        os.utime(copied_home.home / "results" / keys(copied_home)[name])
    assert gc(copied_home.home, "--yes").code == 0
    stages = planned(copied_home.home)
    assert {name for name in NAMES if stages[name]["status"] == "cached"} == set(used)
    assert set(Store(copied_home.home).digests()) == {artifacts(copied_home)[n] for n in used}


def test_a_recent_run_keeps_what_it_refers_to(copied_home: Home) -> None:
    aged(copied_home.home, 31)
    summary = copied_home.home / "runs" / copied_home.summary["run_id"] / "summary.json"
    os.utime(summary)
    assert found(copied_home.home) == set()
    # An artifact that no result names any more.
    (copied_home.home / "results" / keys(copied_home)["width"]).unlink()
    assert found(copied_home.home) == set()
    summary.unlink()
    # For an hour the run may be one that has not ended.
    assert found(copied_home.home) == set()
    later = time.time() + DAY / 12
    assert ("artifact", artifacts(copied_home)["width"]) in found(copied_home.home, now=later)


def test_days_can_be_given(copied_home: Home) -> None:
    aged(copied_home.home, 3)
    assert found(copied_home.home, days=4) == set()
    assert found(copied_home.home, days=2) == all_of(copied_home)


def test_a_clock_that_was_set_back_frees_nothing_more(copied_home: Home) -> None:
    long_ago = time.time() - 1000 * DAY
    assert found(copied_home.home, now=long_ago) == set()
    assert found(copied_home.home, days=1, now=long_ago) == set()
    assert found(copied_home.home, now=time.time() + 1000 * DAY) == all_of(copied_home)


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
        content = json.dumps({"result": json.dumps({"stage": "s", "artifact": digest})})
        (home / "results" / f"{number:064d}").write_text(content)
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


def test_checkpoints_of_a_stage_that_is_not_done(copied_home: Home) -> None:
    """They go by age, where a result is there that cannot be read or is being replaced."""
    home, key = copied_home.home, keys(copied_home)["width"]
    (home / "checkpoints" / key).mkdir(parents=True)
    assert found(home) == {("checkpoint", key)}
    # It was run again on purpose, and its process died.
    path = home / "attempts" / "width" / "000001.json"
    died = json.loads(path.read_text()) | {"status": "running", **this_process()}
    path.with_name("000002.json").write_text(json.dumps(died | {"process_started": -1.0}))
    assert found(home) == set()
    later = time.time() + 31 * DAY
    assert ("checkpoint", key) in found(home, now=later)
    path.with_name("000002.json").unlink()
    assert found(home) == {("checkpoint", key)}
    (home / "results" / key).write_text("half a rec")
    assert ("checkpoint", key) not in found(home)


def test_damaged_copies_leftovers_and_checkpoints(copied_home: Home) -> None:
    home = copied_home.home
    digest = artifacts(copied_home)["depth"]
    aside = Store(home).set_aside(digest)
    assert aside is not None
    (home / "results" / "damaged").mkdir()
    (home / "results" / "damaged" / "abc-1").write_text("{")
    for name in ("store/tmp/old", "store/tmp/new", "tmp/old", "tmp/new", "checkpoints/half"):
        (home / name).mkdir(parents=True)
    (home / "checkpoints" / keys(copied_home)["width"]).mkdir()
    (home / "store" / "tmp" / f"{REMOVED}1").mkdir()
    then = time.time() - 2 * DAY
    for name in ("store/tmp/old", "tmp/old"):
        os.utime(home / name, (then, then))
    done = {("checkpoint", keys(copied_home)["width"]), ("leftover", f"{REMOVED}1")}
    assert found(home) == done | {("leftover", "old")}
    later = found(home, now=time.time() + 31 * DAY)
    assert later - all_of(copied_home) == done | {
        ("leftover", "old"),
        ("leftover", "new"),
        ("checkpoint", "half"),
        ("damaged copy", aside.name),
        ("damaged copy", "abc-1"),
    }
    # A stage that began before the workspace was last written to may be the one that fills it.
    path = home / "attempts" / "width" / "000001.json"
    running = json.loads(path.read_text()) | {"status": "running", **this_process()}
    running["started"] = "2020-01-01T00:00:00+00:00"
    path.with_name("000002.json").write_text(json.dumps(running))
    assert ("leftover", "old") not in found(home)


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


def test_without_a_terminal_it_wants_a_yes(copied_home: Home) -> None:
    aged(copied_home.home, 31)
    before = everything(copied_home.home)
    for args in ((), ("--json",)):
        done = gc(copied_home.home, *args)
        assert (done.code, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert "--yes" in done.stderr
    done = gc(copied_home.home, "--older-than", "-1", "--yes")
    assert done.code == 2
    assert "--older-than must be at least 0 days, got -1" in done.stderr
    assert everything(copied_home.home) == before


@pytest.mark.parametrize(("answer", "stays"), [("n", True), ("y", False)])
def test_a_person_is_asked(copied_home: Home, answer: str, stays: bool) -> None:
    aged(copied_home.home, 31)
    pid, terminal = pty.fork()
    if pid == 0:
        variables = environment(copied_home.home, copied_home.prefect, {"TERM": "dumb"})
        os.execve(ROSITA, [str(ROSITA), "gc"], variables)
    said = b""
    while b"Free it?" not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, f"{answer}\n".encode())
    with contextlib.suppress(OSError):
        while more := os.read(terminal, 4096):
            said += more
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (b"Nothing was freed." in said) == stays
    assert (Store(copied_home.home).digests() != []) == stays


def test_nothing_to_free_in_a_home_that_does_not_exist(tmp_path: Path) -> None:
    done = gc(tmp_path / "home", "--yes")
    assert done.code == 0
    assert "nothing to free" in done.stdout
    assert not (tmp_path / "home").exists()
