"""`rosita gc` frees what nobody refers to, says so first, and asks."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import time
from pathlib import Path

import pytest
from old_homes import DAY, aged, all_of, artifacts, found, gc, keys
from test_plan import NAMES, everything, planned
from typed_command import ROSITA, Home, environment

from flows.serving.lookup import compressed_model
from tasks.cache.documents import StageResult
from tasks.cache.policy import StageResultSerializer
from tasks.cache.records import record_content
from tasks.host.liveness import this_process
from tasks.store.artifacts import Store
from tasks.store.json_files import unsealed
from tasks.store.removal import REMOVED


def test_what_was_used_lately_stays(copied_home: Home) -> None:
    before = everything(copied_home.home)
    done = gc(copied_home.home, "--yes")
    assert done.code == 0
    assert "nothing to free" in done.stdout
    assert everything(copied_home.home) == before


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
    # Of a result that was fetched the number is another home's.
    record = home / "results" / key
    whole = StageResult.model_validate(unsealed(record.read_bytes()))
    record.write_bytes(record_content(whole.model_copy(update={"attempt": 37})))
    path.write_text(
        json.dumps(died | {"process_started": -1.0, "started": "2999-01-01T00:00+00:00"})
    )
    assert found(home) == set()
    path.write_text(
        json.dumps(died | {"process_started": -1.0, "started": "2001-01-01T00:00+00:00"})
    )
    assert found(home) == {("checkpoint", key)}
    record.write_text("half a rec")
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


def test_without_a_terminal_it_wants_a_yes(copied_home: Home) -> None:
    aged(copied_home.home, 31)
    before = everything(copied_home.home)
    for args in ((), ("--json",)):
        done = gc(copied_home.home, *args)
        assert (done.code, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert "--yes" in done.stderr
    for days in ("-1", "inf", "nan"):
        done = gc(copied_home.home, "--older-than", days, "--yes")
        assert done.code == 2
        assert f"--older-than must be in [0, 100,000] days, got {days}" in done.stderr
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


def test_a_model_that_is_looked_up_is_in_use(copied_home: Home) -> None:
    aged(copied_home.home, 31)
    compressed_model(None, copied_home.home)
    assert gc(copied_home.home, "--yes").code == 0
    assert set(Store(copied_home.home).digests()) == {artifacts(copied_home)["export"]}
    assert compressed_model(None, copied_home.home).folder.is_dir()


def test_what_prefect_leaves_of_a_failed_stage_goes_after_a_day(copied_home: Home) -> None:
    error = OSError("GET http://ann:s3cret@host/x failed")
    left = copied_home.home / "results" / ("0" * 32)
    left.write_bytes(StageResultSerializer().dumps(error))
    assert b"s3cret" not in left.read_bytes()
    assert found(copied_home.home) == set()
    os.utime(left, (time.time() - 2 * DAY,) * 2)
    assert found(copied_home.home) == {("leftover", left.name)}
    assert gc(copied_home.home, "--yes").code == 0
    assert not left.exists()
