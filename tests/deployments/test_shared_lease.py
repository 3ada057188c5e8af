"""Leases on a shared folder and on an object store: one holder at a time, and none for ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import BUCKET, ObjectStore

from tasks.store.shared_files import SharedFiles, SharedStoreError
from tasks.store.shared_lease import Lease, lease_seconds

pytestmark = pytest.mark.deployments

SECONDS = 2.0
HOLDER = """
import sys, time
from tasks.store.shared_files import SharedFiles
from tasks.store.shared_lease import Lease
lease = Lease(SharedFiles(sys.argv[1]), "k", float(sys.argv[2]))
assert lease.try_take()
print("held", flush=True)
sys.stdin.readline()
time.sleep(float(sys.argv[2]))
print("lost" if lease.lost else "kept", flush=True)
lease.release()
print("released", flush=True)
"""


@pytest.fixture(scope="module")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    store = ObjectStore(tmp_path_factory.mktemp("s3"))
    store.start()
    yield store
    store.stop()


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/shared"
    store: ObjectStore = request.getfixturevalue("object_store")
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{tmp_path.name}"


def start_holder(url: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url, str(SECONDS)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def take(lease: Lease, within: float) -> float:
    """Seconds until it is taken."""
    began = time.monotonic()
    while not lease.try_take():
        assert time.monotonic() - began < within
        time.sleep(0.05)
    return time.monotonic() - began


def test_a_lease_is_kept_while_its_holder_lives_and_ends_with_it(url: str) -> None:
    lease = Lease(SharedFiles(url), "k", SECONDS)
    process = start_holder(url)
    try:
        deadline = time.monotonic() + 1.5 * SECONDS
        while time.monotonic() < deadline:
            assert not lease.try_take()
            time.sleep(0.05)
        assert f"({process.pid})" in lease.holder
        other = Lease(SharedFiles(url), "other", SECONDS)
        assert other.try_take()
        other.release()
        process.send_signal(signal.SIGKILL)
        process.wait()
        # Its last write may be a moment old or new.
        assert take(lease, 10 * SECONDS) > SECONDS / 2
        assert f"({process.pid})" in lease.took_over
        lease.release()
    finally:
        process.kill()
        process.communicate()


def test_a_holder_that_was_stopped_finds_that_its_lease_was_taken(url: str) -> None:
    process = start_holder(url)
    lease = Lease(SharedFiles(url), "k", SECONDS)
    try:
        process.send_signal(signal.SIGSTOP)
        take(lease, 10 * SECONDS)
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate("go on\n", timeout=60)
        assert said == "lost\nreleased\n"
        # What it gave up was its own lease, not that of the new holder.
        assert not Lease(SharedFiles(url), "k", SECONDS).try_take()
        lease.release()
        after = Lease(SharedFiles(url), "k", SECONDS)
        assert after.try_take()
        after.release()
    finally:
        process.kill()
        process.wait()


def test_of_many_only_one_has_it_at_a_time(url: str) -> None:
    inside: list[int] = []
    most: list[int] = []
    guard = threading.Lock()

    def work() -> None:
        lease = Lease(SharedFiles(url), "k", 60)
        for _ in range(3):
            take(lease, 100)
            with guard:
                inside.append(1)
                most.append(len(inside))
            time.sleep(0.005)
            with guard:
                inside.pop()
            lease.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 12
    # One file is left of all of them.
    assert len(SharedFiles(url).names("locks/k")) == 1


def test_a_wrong_length_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lease_seconds() == 60
    for wrong in ("1", "-5", "3601", "soon", "inf", "nan"):
        monkeypatch.setenv("ROSITA_STORE_LEASE_SECONDS", wrong)
        with pytest.raises(ValueError, match=rf"must be in \[2, 3600\], got {wrong}"):
            lease_seconds()


def test_an_outage_of_the_store_is_no_silence_of_the_holder(url: str) -> None:
    files = SharedFiles(url)
    held = {"state": "held", "holder": "h", "host": "far", "pid": 1, "seconds": 0.3}
    files.create("locks/k/000000001", json.dumps(held).encode())
    waiting = Lease(files, "k", 0.3)
    assert not waiting.try_take()
    time.sleep(0.4)
    # As after an error of the store: nobody could write meanwhile.
    waiting.forget_silence()
    assert not waiting.try_take()
    time.sleep(0.4)
    assert waiting.try_take()
    waiting.release()


def test_an_outage_is_told_once_and_so_is_its_end(
    object_store: ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    lease = Lease(SharedFiles(f"s3://{BUCKET}/{tmp_path.name}"), "k", SECONDS)
    assert lease.try_take()
    object_store.stop()
    until_told("could not be renewed", caplog)
    # Several more writes fail.
    time.sleep(3 * SECONDS)
    object_store.start()
    until_told("is renewed again", caplog)
    lease.release()
    assert [one.message.split(":")[0] for one in caplog.records] == [
        "a lease could not be renewed, tried again",
        "the lease locks/k/000000001 is renewed again",
    ]


def until_told(what: str, caplog: pytest.LogCaptureFixture) -> None:
    deadline = time.monotonic() + 60
    while what not in caplog.text:
        assert time.monotonic() < deadline, caplog.text
        time.sleep(0.1)


class FailsOnce(SharedFiles):
    """A store that fails a request after a lease was created."""

    failures = 1

    def names(self, folder: str) -> list[str]:
        found = super().names(folder)
        if found and self.failures:
            self.failures -= 1
            raise SharedStoreError("once")
        return found


def test_a_holder_that_could_not_see_that_it_has_a_lease_has_it(url: str) -> None:
    """Else it would wait for itself until its own lease counts as abandoned."""
    lease = Lease(FailsOnce(url), "k", 60)
    with pytest.raises(SharedStoreError):
        lease.try_take()
    assert lease.try_take()
    assert lease.took_over == ""
    assert not Lease(SharedFiles(url), "k", 60).try_take()
    lease.release()
    after = Lease(SharedFiles(url), "k", 60)
    assert after.try_take()
    after.release()
