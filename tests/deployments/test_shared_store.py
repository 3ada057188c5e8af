"""Homes on one shared store: what one has computed the others fetch, verified, or compute once."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from contexts import stage_context
from object_store import BUCKET, ObjectStore
from prefect import task
from prefect.testing.utilities import prefect_test_harness

from flows.maintenance.doctor_services import check_shared_store
from rosita_core.training.progress import Progress
from tasks.cache.checkpoints import StageCheckpoints, newest
from tasks.cache.documents import StageResult
from tasks.cache.metric_history import observations
from tasks.cache.policy import stage_options
from tasks.cache.records import inspect_record
from tasks.cache.shared_records import SharedStore, look, obtain
from tasks.cache.shared_turn import shared_turn
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import Context, attempts, carry_out
from tasks.execution.work import Computed, Work
from tasks.home import Home
from tasks.store.artifacts import Store
from tasks.store.disk import DiskFull
from tasks.store.json_files import sealed
from tasks.store.shared_files import SharedFiles, SharedStoreError, checked_files, shared_files

NUMERICS = {"device": "cpu", "precision": "fp32", "hardware": "AVX2", "deterministic": True}
SAID = "could not be shared"


@dataclass(frozen=True)
class Settings:
    rate: float
    wait: float = 0.0


def make_stage(settings: Settings) -> Stage:
    return Stage("student", ("rosita_core.stages",), settings, {}, NUMERICS)


STAGE = make_stage(Settings(1.0))
KEY = STAGE.key

pytestmark = pytest.mark.deployments


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    store = ObjectStore(tmp_path_factory.mktemp("s3"))
    store.start()
    yield store
    store.stop()


@pytest.fixture(params=["file", "s3"])
def files(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> SharedFiles:
    """The shared store of the test, set as a user sets it."""
    url = f"file://{tmp_path}/shared"
    if request.param == "s3":
        store: ObjectStore = request.getfixturevalue("object_store")
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        url = f"s3://{BUCKET}/{tmp_path.name}"
    monkeypatch.setenv("ROSITA_STORE", url)
    found = shared_files()
    assert found is not None
    return found


@task
def student(stage: Stage, context: Context) -> StageResult:
    return carry_out(compute, stage, context)


def compute(work: Work) -> Computed:
    settings = work.stage.config
    time.sleep(settings.wait)
    work.report(Progress(1, 1, {"train/loss": settings.rate}, None, None))
    with work.output() as folder:
        (folder / "weights.bin").write_text(f"{settings.rate}")
        (folder / "deeper").mkdir()
        (folder / "deeper" / "config.json").write_text("{}")
    return work.computed({"score": 0.5, "shape": "a2"})


def run(home: Path, stage: Stage = STAGE, again: bool = False) -> tuple[str | None, StageResult]:
    """A stage as a flow runs it."""
    ready = student.with_options(**stage_options(home, stage), refresh_cache=again)
    with shared_turn(home, stage.name, stage.key, again) as turn:
        state = ready(stage, stage_context(home, None), return_state=True)
        result: StageResult = state.result()
        if turn is not None:
            turn.publish(result)
    return state.name, result


def content(home: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in home.rglob("*") if path.is_file()}


def shared_path(files: SharedFiles, result: StageResult, name: str = "weights.bin") -> str:
    return f"artifacts/{result.artifact}/files/{name}"


def test_another_home_fetches_what_one_has_computed(files: SharedFiles, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert look(other, KEY, "student") == (None, None)
    name, first = run(one)
    assert name == "Completed"
    assert look(other, KEY, "student") == (first, None)
    assert not other.exists()
    assert run(other) == ("Cached", first)
    assert attempts(other, "student") == []
    assert Store(other).verify(first.artifact) is None
    assert Store(other).provenance(first.artifact) == Store(one).provenance(first.artifact)
    # Nothing that is shared names a place of one machine.
    assert not [text for text in shared_texts(files) if str(tmp_path) in text]
    # From now on the home is enough.
    shutil.rmtree(other / "locks")
    assert obtain(other, KEY, "student") == inspect_record(other, KEY, "student") == (first, None)


def test_a_fetched_result_has_its_own_course(files: SharedFiles, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    # Each home counts its attempts from one.
    _, theirs = run(other, make_stage(Settings(7.0)))
    _, first = run(one)
    run(other)
    assert theirs.attempt == first.attempt
    for home in (one, other):
        [line] = observations(home, "student", first.attempt, KEY)
        assert line["metrics"] == {"train/loss": 1.0}


def shared_texts(files: SharedFiles) -> list[str]:
    return [
        (files.read(f"{folder}/{name}") or b"").decode()
        for folder in ("results", *(f"locks/{key}" for key in files.names("locks")))
        for name in files.names(folder)
    ]


def test_without_the_variable_nothing_is_shared(
    files: SharedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROSITA_STORE")
    run(tmp_path / "one")
    assert files.sizes("") == {}
    assert checked_files(write=True) is None
    assert check_shared_store().detail == "none: ROSITA_STORE is not set"
    # What was computed before is shared as soon as it is used.
    monkeypatch.setenv("ROSITA_STORE", files.url)
    name, first = run(tmp_path / "one")
    assert name == "Cached"
    assert run(tmp_path / "other") == ("Cached", first)
    assert check_shared_store().status == "ok"


def test_homes_that_want_the_same_at_once_compute_it_once(
    files: SharedFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = make_stage(Settings(1.0, wait=1.5))
    homes = [tmp_path / str(number) for number in range(3)]
    done: list[tuple[str | None, StageResult]] = []
    threads = [
        threading.Thread(target=lambda home=home: done.append(run(home, stage))) for home in homes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(str(name) for name, _ in done) == ["Cached", "Cached", "Completed"]
    assert len({result.finished_at for _, result in done}) == 1
    assert sum(len(attempts(home, "student")) for home in homes) == 1
    assert "stage student is running on " in caplog.text


DAMAGES = {
    "weights.bin has changed": lambda f, r: f.write(shared_path(f, r), b"2.0"),
    "weights.bin has 1 bytes instead of 3": lambda f, r: f.write(shared_path(f, r), b"2"),
    "deeper/config.json is missing": lambda f, r: f.remove(shared_path(f, r, "deeper/config.json")),
    "manifest.json is missing": lambda f, r: f.remove(f"artifacts/{r.artifact}/manifest.json"),
    "does not have the digest": lambda f, r: f.write(
        f"artifacts/{r.artifact}/manifest.json", b"[]"
    ),
    "is not readable JSON": lambda f, r: f.write(f"results/{r.key}.json", b'{"rec'),
    "is not the result of a stage": lambda f, r: f.write(
        f"results/{r.key}.json", sealed({"result": r.model_dump()})
    ),
}


@pytest.mark.parametrize("problem", DAMAGES)
def test_a_damaged_shared_copy_is_a_miss_that_says_so(
    files: SharedFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture, problem: str
) -> None:
    _, first = run(tmp_path / "one")
    DAMAGES[problem](files, first)
    if problem != "weights.bin has changed":
        # Which is seen when its bytes are read.
        record, seen = look(tmp_path / "other", KEY, "student")
        assert record is None
        assert seen
    name, second = run(tmp_path / "other")
    assert (name, second.artifact) == ("Completed", first.artifact)
    assert "stage student will run again: " in caplog.text
    assert problem in caplog.text
    assert files.names("damaged")
    assert not [path for path in (tmp_path / "other/store").rglob("*") if path.name == "damaged"]
    # What was computed again takes its place.
    assert run(tmp_path / "third") == ("Cached", second)


def test_a_damaged_copy_in_the_home_is_fetched_again(
    files: SharedFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, first = run(tmp_path)
    path = Store(tmp_path).path(first.artifact) / "weights.bin"
    path.chmod(0o644)
    path.write_text("2.0")
    assert look(tmp_path, KEY, "student") == (first, None)
    assert run(tmp_path) == ("Cached", first)
    assert "weights.bin has changed. The damaged copy was set aside" in caplog.text
    assert len(attempts(tmp_path, "student")) == 1


def test_a_stage_that_is_run_again_is_shared_again(files: SharedFiles, tmp_path: Path) -> None:
    _, first = run(tmp_path / "one")
    name, second = run(tmp_path / "two", again=True)
    assert name == "Completed"
    assert second.finished_at >= first.finished_at
    assert run(tmp_path / "three") == ("Cached", second)


def test_a_checkpoint_is_shared_while_the_stage_runs_and_dropped_when_it_is_done(
    files: SharedFiles, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"

    def saved(home: Path, again: bool = False) -> StageCheckpoints:
        return StageCheckpoints(Home(home).checkpoints_of(KEY), "student", 60, None, again)

    def write(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "inner" / "state.bin").write_text("after 4 steps")

    with (
        pytest.raises(KeyboardInterrupt),
        shared_turn(one, "student", KEY, False),
    ):
        saved(one).save(4, 10, write)
        # One that is saved just before the end is shared, too.
        saved(one).save(6, 10, write)
        raise KeyboardInterrupt
    assert files.names(f"checkpoints/{KEY}") == ["000002"]
    with shared_turn(other, "student", KEY, False):
        found = saved(other)
        assert found.resumed_from == 6
        latest = found.latest()
        assert latest is not None
        assert (latest / "inner" / "state.bin").read_text() == "after 4 steps"
        # Older than what is here now: it stays where it is.
        found.save(8, 10, write)
        assert SharedStore(files, other).fetch_checkpoint(KEY, "student", again=False) is None
    # A stage that is computed again on purpose begins anew.
    assert (
        SharedStore(files, tmp_path / "third").fetch_checkpoint(KEY, "student", again=True) is None
    )
    assert files.names(f"checkpoints/{KEY}") == ["000003"]
    run(tmp_path / "third")
    assert files.names(f"checkpoints/{KEY}") == []


def test_a_checkpoint_of_a_later_phase_is_ahead_of_one_with_more_units(tmp_path: Path) -> None:
    files = SharedFiles(f"file://{tmp_path}/shared")

    def saves(home: Path, unit: int, total: int, again: bool = False) -> None:
        """As `one-step` does, which ranks batches and then trains steps."""
        found = StageCheckpoints(Home(home).checkpoints_of(KEY), "one-step", 60, None, again)
        time.sleep(0.01)
        found.save(unit, total, lambda folder: (folder / "phase").write_text(str(total)))

    def sends(home: Path) -> None:
        found = newest(Home(home).checkpoints_of(KEY))
        assert found is not None
        assert SharedStore(files, home).send_checkpoint(KEY, found.path)

    def fetches(home: Path, again: bool = False) -> int | None:
        return SharedStore(files, home).fetch_checkpoint(KEY, "one-step", again)

    one, other = tmp_path / "one", tmp_path / "other"
    saves(one, 900, 1_000)
    sends(one)
    assert fetches(other) == 900
    saves(other, 50, 5_000)
    # What is shared lags behind: of the phase before, with more units.
    assert fetches(other) is None
    sends(other)
    assert fetches(one) == 50
    assert fetches(one) is None
    # One on purpose does not go on from what was there before.
    third = tmp_path / "third"
    saves(third, 60, 5_000)
    saves(other, 20, 5_000, again=True)
    sends(other)
    assert fetches(third) is None
    assert fetches(third, again=True) == 20


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("nope://bucket/x", "must be a URL that begins with abfs://, file://, gs://, s3://"),
        ("bucket/x", "must be a URL that begins with"),
        ("s3://", "must be a URL that begins with"),
        ("memory://x", "must be a URL that begins with"),
        ("file://relative/x", "must be file:// and an absolute path"),
        ("s3://key:hush@bucket/x", "must hold no credentials"),
        ("s3://bucket/x?secret=hush", "must hold no credentials"),
        ("gs://bucket/x", "must be a URL whose protocol is installed"),
        ("file:///proc/nowhere/x", "must be a store that works"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, url: str, problem: str
) -> None:
    monkeypatch.setenv("ROSITA_STORE", url)
    with pytest.raises(ValueError, match=r"^ROSITA_STORE ") as error:
        checked_files(write=True)
    assert problem in str(error.value)
    assert "hush" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    found = check_shared_store()
    assert (found.status, problem in found.detail) == ("problem", True)


def test_a_home_that_does_not_reach_the_store_keeps_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "shared"
    monkeypatch.setenv("ROSITA_STORE", f"file://{folder}")
    home = tmp_path / "home"
    with shared_turn(home, "student", KEY, False) as turn:
        ready = student.with_options(**stage_options(home, STAGE))
        first = ready(STAGE, stage_context(home, None))
        # The folder goes away, and a file of its name is in the way.
        shutil.rmtree(folder)
        folder.write_text("")
        assert turn is not None
        turn.publish(first)
    assert SAID in caplog.text
    monkeypatch.setattr("tasks.cache.shared_turn.PATIENCE_SECONDS", 0.5)
    assert run(home) == ("Cached", first)
    with pytest.raises(SharedStoreError, match=f"^file://{folder}/"):
        run(tmp_path / "other")
    folder.unlink()
    assert run(home) == ("Cached", first)
    assert run(tmp_path / "other") == ("Cached", first)


def test_a_checkpoint_stays_in_its_folder(
    files: SharedFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = f"checkpoints/{KEY}/000001"
    about = {"stage": "student", "unit": 1, "total": 2, "seconds": 1.0, "again": False}
    files.write(f"{folder}/manifest.json", json.dumps([["../../escaped", 1, "0" * 64]]).encode())
    files.write(f"{folder}/about.json", sealed(about))
    assert SharedStore(files, tmp_path).fetch_checkpoint(KEY, "student", again=False) is None
    assert "is damaged (manifest.json is not a list of files) and was set aside" in caplog.text
    assert [name for name in files.names("damaged") if name.startswith(f"{KEY}-000001-")]
    # Without the file that is written last there is no checkpoint, whatever else is left of it.
    assert "about.json" not in files.names(folder)


def test_no_room_in_the_home_is_no_fault_of_the_store(files: SharedFiles) -> None:
    files.write("large", b"x" * 100_000)
    with pytest.raises(DiskFull, match=r"^no room for .*/large: [\d,.]+ MB free in /dev; "):
        files.get("large", Path("/dev/full"))


def test_what_the_object_store_refuses_is_said_in_one_line(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ROSITA_STORE", "s3://no-such-bucket/x")
    expect_problem("The specified bucket does not exist")
    monkeypatch.setenv("ROSITA_STORE", f"s3://{BUCKET}/no-answer")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    expect_problem("Could not connect to the endpoint URL")
    monkeypatch.setenv("ROSITA_STORE", f"s3://{BUCKET}/no-credentials")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    expect_problem("Unable to locate credentials")


def expect_problem(problem: str) -> None:
    for write in (True, False):
        with pytest.raises(ValueError, match=r"^ROSITA_STORE must be a store that works") as error:
            checked_files(write=write)
        assert problem in str(error.value)
        assert "test-secret" not in str(error.value)
        assert len(str(error.value).splitlines()) == 1
