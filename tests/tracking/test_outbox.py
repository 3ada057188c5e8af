"""The files of the outbox: whatever is in them, they are read, and nothing is lost by looking."""

import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from serving import free_ports

from flows.maintenance.doctor_services import OK, WARNING, check_outbox
from tasks.home import Home
from tasks.tracking.outbox.box import Outbox, waiting
from tasks.tracking.outbox.delivery import complete_document
from tasks.tracking.outbox.journal import Journal, State
from tasks.tracking.outbox.refused import ask_again, refuse, refused, removable
from tasks.tracking.outbox.sender import Sender
from tasks.tracking.outbox.sync import sync


def opened(home: Path, handle: str = "a" * 32, uri: str | None = None) -> Journal:
    header: dict[str, Any] = {"op": "create", "handle": handle, "uri": uri, "parent": None}
    return Outbox(home).start(header | {"experiment": "e", "name": "demo", "tags": {}, "time": 1})


@contextmanager
def one_descriptor_left() -> Iterator[None]:
    """The process may open one more file, not two; afterwards it still may open that one."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(used) + 2, limits[1]))
    taken = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(2))
        os.close(taken.pop())
        yield
        taken.append(os.dup(2))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)


def test_a_completed_document_keeps_its_times(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({"mlflow_run_id": None, "registered_model": None}))
    os.utime(path, ns=(10**18, 10**18 + 7))
    complete_document(path, "run", None)
    assert json.loads(path.read_text())["mlflow_run_id"] == "run"
    assert path.stat().st_mtime_ns == 10**18 + 7


def test_a_journal_that_cannot_be_taken_keeps_no_descriptor(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.release()
    with one_descriptor_left(), pytest.raises(OSError, match="Too many open files"):
        Outbox(tmp_path).take(journal.path)
    assert Outbox(tmp_path).take(journal.path) is not None


@pytest.mark.parametrize(
    "text", ["", '{"sent": 3', "[]", "null", '{"offset": "1"}', '{"offset": -1}', '{"run_id": 3}']
)
def test_a_state_that_cannot_be_read_is_in_doubt(tmp_path: Path, text: str) -> None:
    journal = opened(tmp_path)
    journal.path.with_suffix(".json").write_text(text)
    assert Outbox(tmp_path).state(journal.handle) == State(creating=True, doubtful=True)


def test_a_state_of_more_than_there_is_sends_everything_again(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.state = State(run_id="r", sent=9, offset=10_000)
    journal.note()
    journal.release()
    taken = Outbox(tmp_path).take(journal.path)
    assert taken is not None
    assert taken.state == State(run_id="r", creating=True, doubtful=True)
    assert len(taken.unsent(10)) == 1


def test_parents_come_before_children_that_began_with_or_before_them(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for handle, parent, moment in (("c", None, 5), ("b", "c", 5), ("a", "b", 1), ("d", None, 4)):
        header = {"op": "create", "handle": handle, "uri": None, "parent": parent, "time": moment}
        journal = outbox.start(header)
        journal.state.done = True
        journal.note()
        journal.release()
    assert [path.stem for path in outbox.paths()] == ["d", "c", "b", "a"]
    outbox.tidy()
    assert list(outbox.folder.iterdir()) == []


def test_counting_what_waits_changes_nothing(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    assert waiting(tmp_path) == 0
    assert check_outbox(tmp_path).status == OK
    journal.release()
    with journal.path.open("ab") as file:
        file.write(b'{"op": "metr')
    before = journal.path.read_bytes()
    assert waiting(tmp_path) == 1
    found = check_outbox(tmp_path)
    assert (found.status, "1 run of ended" in found.detail) == (WARNING, True)
    assert journal.path.read_bytes() == before


def test_a_run_that_is_broken_is_named_and_the_rest_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (port,) = free_ports(1)
    uri = f"http://127.0.0.1:{port}"
    (Home(tmp_path).outbox / f"{'b' * 32}.jsonl").mkdir(parents=True)
    opened(tmp_path, "c" * 32, uri).release()
    assert waiting(tmp_path) == 2
    runs = {run.name: run.problem for run in sync(tmp_path).runs}
    assert "Is a directory" in str(runs["b" * 32])
    assert runs["demo"] == "it cannot be reached"


def test_the_thread_outlives_a_closed_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (port,) = free_ports(1)
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        raise BrokenPipeError

    sender = Sender(tmp_path, f"http://127.0.0.1:{port}", tell)
    header = {"op": "create", "handle": "d" * 32, "uri": sender.uri, "parent": None}
    sender.start(header | {"experiment": "e", "name": "demo", "tags": {}, "time": 1})
    deadline = time.monotonic() + 60
    while not told and time.monotonic() < deadline:
        time.sleep(0.05)
    assert told
    assert not sender.flush(5)
    assert sender._thread is not None
    assert sender._thread.is_alive()


def test_what_is_refused_becomes_a_journal_again(tmp_path: Path) -> None:
    outbox, journal = Outbox(tmp_path), opened(tmp_path)
    journal.state.run_id = "r"
    files = journal.held("model")
    files.mkdir(parents=True)
    (files / "weights").write_text("w")
    values = [["metrics", ["m", 1.0, 5, 0]], ["params", ["p", "1", None, None]]]
    for operation in (
        {"op": "batch", "values": values},
        {"op": "batch", "values": values},
        {"op": "terminate", "status": "FINISHED", "time": 6},
        {"op": "register", "token": "t", "files": "model"},
    ):
        path = refuse(outbox, journal, operation, "no")
    with path.open("a") as file:
        file.write('{"why": "cut')
    assert (refused(outbox), check_outbox(tmp_path).status) == (4, WARNING)
    # While the run has a journal, that one is first.
    assert ask_again(outbox) == 0
    journal.release()
    for leftover in (journal.path, journal.held("model") / "weights"):
        leftover.unlink()
    journal.held("model").rmdir()
    journal.held("").rmdir()
    assert (ask_again(outbox), refused(outbox)) == (1, 0)
    again = outbox.take(journal.path)
    assert again is not None
    assert again.state.run_id == "r"
    assert [entry.operation for entry in again.unsent(10)] == [
        {"op": "metrics", "values": {"m": 1.0}, "time": 5, "step": 0},
        {"op": "params", "values": {"p": "1"}, "time": None, "step": None},
        {"op": "register", "token": "t", "files": "model"},
        {"op": "terminate", "status": "FINISHED", "time": 6},
    ]
    assert (again.held("model") / "weights").read_text() == "w"
    assert list(Home(tmp_path).refused.iterdir()) == []


def test_leftovers_are_old_and_wait_for_nothing(tmp_path: Path) -> None:
    outbox, journal = Outbox(tmp_path), opened(tmp_path)
    journal.note()
    journal.held("x").mkdir(parents=True)
    kept = refuse(outbox, journal, {"op": "dataset"}, "no")
    orphans = [outbox.folder / name for name in (".e.new", "e.json", "e.files")]
    for path in orphans:
        path.mkdir()
    for path in (kept, *orphans, *Home(tmp_path).outbox.iterdir()):
        os.utime(path, (1000, 1000))
    assert removable(tmp_path, 1000) == []
    assert removable(tmp_path, 1001) == sorted([kept, *orphans])
    os.utime(kept, (2000, 2000))
    assert removable(tmp_path, 1001) == sorted(orphans)
