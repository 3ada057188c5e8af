"""MLflow dies, freezes and comes back: nothing reaches the caller, nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from contexts import stage_context
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow_server import MlflowServer

from tasks.cache.stage_key import Stage
from tasks.execution.attempt import attempt
from tasks.home import Home
from tasks.store.artifacts import write_json
from tasks.tracking.outbox.box import Outbox, waiting
from tasks.tracking.outbox.delivery import Delivery
from tasks.tracking.outbox.sync import Report, sync
from tasks.tracking.runs import Tracking

# Processes that need not import everything again, and that share no connection with this one.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])

TASK = "sst2"
POINTS = 40
# So long on the busiest machine.
PATIENCE = 120.0


@dataclass(frozen=True)
class Settings:
    rate: float


NUMERICS = {"device": "cpu", "precision": "fp32", "hardware": "AVX2", "deterministic": True}
STAGE = Stage("student", ("rosita_core.stages",), Settings(2e-5), {}, NUMERICS)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server that need not run yet: starting it takes most of the time of these tests."""
    server = MlflowServer(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture
def server(machine: MlflowServer) -> MlflowServer:
    machine.start()
    return machine


@pytest.fixture(autouse=True)
def environment(machine: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", machine.uri)
    # Else the server of processes does not find this module, and each of them imports everything.
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    # The senders of a process are kept by home, and a home is made for each test.
    return tmp_path / "home"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def client(server: MlflowServer) -> MlflowClient:
    return MlflowClient(tracking_uri=server.uri, registry_uri=server.uri)


_watched: set[int] = set()


def _no_connection(event: str, _: object) -> None:
    if event == "socket.connect" and threading.get_ident() in _watched:
        raise AssertionError("a caller talks to MLflow itself")


sys.addaudithook(_no_connection)


@contextmanager
def without_a_connection() -> Iterator[None]:
    """What a flow or a stage calls talks to nobody, so that it waits for nobody."""
    _watched.add(threading.get_ident())
    try:
        yield
    finally:
        _watched.discard(threading.get_ident())


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def begin(home: Path) -> tuple[Tracking, str, str]:
    """A parent and a child run that are open."""
    with without_a_connection():
        tracking = Tracking(home)
        parent = tracking.start_parent(TASK, "demo", {"seed": 3, "a": {"b": 1}}, 3, "flow", "a2")
        child = tracking.start_child(
            STAGE, stage_context(home, parent, TASK), "k" * 64, 1, cached=False
        )
    return tracking, parent, child


def learn(tracking: Tracking, child: str, first: int = 0, count: int = POINTS) -> None:
    with without_a_connection():
        for step in range(first, first + count):
            tracking.log_metrics(child, step, {"train/loss": 1 / (step + 1), "train/lr": 1e-5})


def end(
    tracking: Tracking, home: Path, parent: str, child: str, checkpoint: Path, artifact: str
) -> Path:
    """Close both runs with everything that a flow records; returns the summary."""
    summary = home / "runs" / "flow" / "summary.json"
    with without_a_connection():
        tracking.log_dataset(child, TASK, "ab" * 32, "glue-dir", {"rows": 3})
        tracking.finish(child, "FINISHED", {"score": 0.5, "shape": "a2"}, {"rosita.artifact": "x"})
        tracking.log_model(parent, "rosita-sst2", checkpoint, artifact, {"r": 1}, {"t": "u"})
        write_json(summary, {"mlflow_run_id": None, "registered_model": None, "score": 0.5})
        tracking.log_document(parent, summary)
        tracking.finish(parent, "FINISHED", {"score": 0.5}, {})
    return summary


def wait_until_sent(tracking: Tracking) -> None:
    """After an outage; the first tries may still fail."""
    until(lambda: tracking.flush(15))


def runs(server: MlflowServer, since: int) -> list[Run]:
    """Every run of the server that began after a moment, deleted ones left out."""
    mlflow = client(server)
    found = mlflow.get_experiment_by_name(f"rosita-{TASK}")
    if found is None:
        return []
    every = mlflow.search_runs([found.experiment_id])
    # Parent and child may begin in one millisecond.
    every.sort(key=lambda run: (run.info.start_time, "mlflow.parentRunId" in run.data.tags))
    return [run for run in every if run.info.start_time >= since]


def now() -> int:
    return int(time.time() * 1000)


def contents(server: MlflowServer, run: Run) -> dict[str, Any]:
    """All that MLflow has of a run, without what differs from run to run."""
    mlflow = client(server)
    run_id = run.info.run_id
    unlike = {"mlflow.parentRunId", "rosita.handle"}
    curves = {
        name: [(point.step, point.value) for point in mlflow.get_metric_history(run_id, name)]
        for name in run.data.metrics
    }
    detail = mlflow.get_run(run_id)
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "params": run.data.params,
        "tags": {name: value for name, value in run.data.tags.items() if name not in unlike},
        "curves": curves,
        "files": sorted(file.path for file in mlflow.list_artifacts(run_id)),
        "data": [(one.dataset.name, one.dataset.digest) for one in detail.inputs.dataset_inputs],
        "models": len(detail.outputs.model_outputs) if detail.outputs else 0,
    }


def check_complete(server: MlflowServer, since: int, points: int = POINTS) -> dict[str, Any]:
    """One parent with one child, whole; returns their contents."""
    found = runs(server, since)
    assert [run.info.run_name for run in found] == ["demo", "student"]
    parent, child = found
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    whole = {run.info.run_name: contents(server, run) for run in found}
    losses = [(step, 1 / (step + 1)) for step in range(points)]
    assert sorted(whole["student"]["curves"]["train/loss"]) == losses
    assert [whole[name]["status"] for name in ("demo", "student")] == ["FINISHED", "FINISHED"]
    assert whole["demo"]["params"] == {"seed": "3", "a.b": "1"}
    assert whole["demo"]["files"] == ["recipe.json", "summary.json"]
    assert (whole["demo"]["models"], len(whole["student"]["data"])) == (1, 1)
    return whole


def versions(server: MlflowServer, artifact: str) -> list[str]:
    wanted = f"name = 'rosita-sst2' and tags.`rosita.artifact` = '{artifact}'"
    return [str(one.version) for one in client(server).search_model_versions(wanted)]


def in_another_process(function: Callable[..., None], *args: Any) -> int:
    """The exit code of a process that runs a function of this module."""
    process = PROCESSES.Process(target=function, args=args)
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def sync_into(home: Path, path: Path) -> None:
    path.write_text(json.dumps(asdict(sync(home))))


def synced(home: Path) -> dict[str, Any]:
    """`sync` as the command does it: the journals of a test's own process would be in use."""
    path = home.parent / "report.json"
    assert in_another_process(sync_into, home, path) == 0
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def empty(home: Path) -> bool:
    return [path.name for path in Home(home).outbox.iterdir()] == []


def record_a_run(home: Path, checkpoint: Path, artifact: str) -> None:
    tracking, parent, child = begin(home)
    learn(tracking, child)
    end(tracking, home, parent, child, checkpoint, artifact)
    tracking.flush(5)


def test_offline_and_then_sent_is_the_same_as_online(
    machine: MlflowServer, tmp_path: Path, checkpoint: Path
) -> None:
    since = now()
    home = tmp_path / "offline"
    assert in_another_process(record_a_run, home, checkpoint, "4" * 64) == 0
    assert waiting(home) == 2
    failed = sync(home)
    assert [run.run_id for run in failed.runs] == [None, None]
    assert all(run.left and run.problem == "it cannot be reached" for run in failed.runs)

    machine.start()
    report = synced(home)
    assert (len(report["runs"]), report["in_use"]) == (2, 0)
    sent = check_complete(machine, since)
    assert len(versions(machine, "4" * 64)) == 1
    filled = json.loads((home / "runs" / "flow" / "summary.json").read_text())
    assert filled["mlflow_run_id"] == runs(machine, since)[0].info.run_id
    assert filled["registered_model"]["version"] == versions(machine, "4" * 64)[0]
    assert (waiting(home), empty(home)) == (0, True)
    assert sync(home) == Report([], 0)

    since = now()
    tracking, parent, child = begin(tmp_path / "online")
    learn(tracking, child)
    end(tracking, tmp_path / "online", parent, child, checkpoint, "3" * 64)
    wait_until_sent(tracking)
    assert check_complete(machine, since) == sent


def test_lost_in_the_middle_and_back(
    server: MlflowServer, home: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    since = now()
    tracking, parent, child = begin(home)
    learn(tracking, child, 0, 10)
    assert tracking.flush(30)
    server.kill()
    try:
        learn(tracking, child, 10, 20)
        # As soon as it is known not to answer, nobody waits for it.
        until(lambda: any("does not answer" in record.message for record in caplog.records))
        began = time.monotonic()
        assert not tracking.flush(60)
        assert time.monotonic() - began < 60
        learn(tracking, child, 30, 10)
    finally:
        server.start()
    end(tracking, home, parent, child, checkpoint, "1" * 64)
    wait_until_sent(tracking)
    check_complete(server, since)
    assert len(versions(server, "1" * 64)) == 1
    said = [
        record.message for record in caplog.records if record.name == "tasks.tracking.outbox.sender"
    ]
    assert len(said) == 2
    assert "does not answer" in said[0]
    assert "answers again" in said[1]
    until(lambda: empty(home))


def test_a_server_that_never_answers(server: MlflowServer, home: Path, checkpoint: Path) -> None:
    tracking, parent, child = begin(home)
    for run in (child, parent):
        tracking.finish(run, "FINISHED", {}, {})
    # From here on the experiment is known, and the first request is to create a run.
    wait_until_sent(tracking)
    since = now()
    server.freeze()
    try:
        tracking, parent, child = begin(home)
        learn(tracking, child)
        began = time.monotonic()
        assert tracking.run_id(child, 60) is None
        assert time.monotonic() - began < 60
        summary = end(tracking, home, parent, child, checkpoint, "2" * 64)
        assert not tracking.flush(1)
        # A request to create the run is given up, and reaches the server all the same.
        until(lambda: tracking._sender.state(parent).doubtful)
    finally:
        server.thaw()
    wait_until_sent(tracking)
    check_complete(server, since)
    filled = json.loads(summary.read_text())
    assert filled["mlflow_run_id"] == tracking.run_id(parent)
    assert filled["registered_model"]["version"] in versions(server, "2" * 64)
    until(lambda: empty(home))


def die_after(moment: str, home: Path, checkpoint: Path, artifact: str) -> None:
    """Record a run; the process dies when MLflow has answered, before it can note the answer."""
    real = getattr(MlflowClient, moment)

    def fatal(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(MlflowClient, moment, fatal)
    tracking, parent, child = begin(home)
    learn(tracking, child)
    end(tracking, home, parent, child, checkpoint, artifact)
    tracking.flush(60)


@pytest.mark.parametrize("moment", ["create_run", "log_batch", "create_model_version"])
def test_killed_between_sending_and_noting(
    server: MlflowServer, home: Path, checkpoint: Path, moment: str
) -> None:
    since = now()
    artifact = {"create_run": "5", "log_batch": "6", "create_model_version": "7"}[moment] * 64
    code = in_another_process(die_after, moment, home, checkpoint, artifact)
    assert code == -signal.SIGKILL
    assert waiting(home) >= 1
    report = sync(home)
    assert [run.problem for run in report.runs] == [None] * len(report.runs)
    check_complete(server, since)
    assert len(versions(server, artifact)) == 1
    until(lambda: empty(home))


def die_in_the_middle(home: Path) -> None:
    tracking, _, child = begin(home)
    learn(tracking, child)
    tracking.flush(60)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_run_whose_process_was_killed_is_closed(server: MlflowServer, home: Path) -> None:
    since = now()
    assert in_another_process(die_in_the_middle, home) == -signal.SIGKILL
    assert {run.info.status for run in runs(server, since)} == {"RUNNING"}
    # What was being written at that moment is no operation.
    journal = Outbox(home).paths()[-1]
    with journal.open("a") as file:
        file.write('{"op": "metrics", "val')
    sync(home)
    assert [run.info.status for run in runs(server, since)] == ["KILLED", "KILLED"]


def test_what_mlflow_refuses_does_not_block_the_rest(
    server: MlflowServer, home: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    since = now()
    tracking, parent, child = begin(home)
    tracking.log_params(child, {"rate": "another", "fine": "1", "not/?allowed": "2"})
    tracking.log_metrics(child, 0, {"bad\nname": 1.0, "good": 2.0})
    learn(tracking, child)
    end(tracking, home, parent, child, checkpoint, "8" * 64)
    wait_until_sent(tracking)
    whole = check_complete(server, since)
    assert whole["student"]["params"]["rate"] == "2e-05"
    assert whole["student"]["params"]["fine"] == "1"
    assert whole["student"]["curves"]["good"] == [(0, 2.0)]
    kept = (Home(home).refused / f"{child}.jsonl").read_text().splitlines()
    values = [json.loads(line)["operation"]["values"] for line in kept]
    assert [value[0][1][0] for value in values] == ["rate", "not/?allowed", "bad\nname"]
    assert any("does not accept" in record.message for record in caplog.records)


def test_journals_of_a_living_process_are_left_alone(server: MlflowServer, home: Path) -> None:
    tracking, parent, child = begin(home)
    assert synced(home) == {"runs": [], "in_use": 2, "refused": 0}
    assert waiting(home) == 0
    for run in (child, parent):
        tracking.finish(run, "FINISHED", {}, {})
    wait_until_sent(tracking)
    until(lambda: empty(home))


def test_the_late_id_of_the_run_that_computed_a_stage(server: MlflowServer, home: Path) -> None:
    since = now()
    server.freeze()
    try:
        tracking = Tracking(home)
        parent = tracking.start_parent(TASK, "demo", {}, 3, None, None)
        with attempt(STAGE, stage_context(home, parent, TASK)) as work:
            with work.output() as folder:
                (folder / "weights").write_text("w")
            result = work.result({})
        assert result.mlflow_run_id is None
        tracking.record_cached(STAGE, result, stage_context(home, parent, TASK))
        tracking.finish(parent, "FINISHED", {}, {})
    finally:
        server.thaw()
    wait_until_sent(tracking)
    _, computed, cached = runs(server, since)
    assert cached.data.tags["rosita.computed_by"] == computed.info.run_id


def test_runs_of_several_threads_keep_their_order(server: MlflowServer, home: Path) -> None:
    since = now()
    tracking = Tracking(home)
    parent = tracking.start_parent(TASK, "demo", {}, 3, None, None)
    opened = [
        tracking.start_child(STAGE, stage_context(home, parent, TASK), "k", number, cached=False)
        for number in range(4)
    ]
    threads = [threading.Thread(target=learn, args=(tracking, run)) for run in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in (*opened, parent):
        tracking.finish(run, "FINISHED", {}, {})
    wait_until_sent(tracking)
    found = runs(server, since)
    assert found[0].info.run_name == "demo"
    assert {run.data.tags["rosita.attempt"] for run in found[1:]} == {"0", "1", "2", "3"}
    for run in found[1:]:
        curve = client(server).get_metric_history(run.info.run_id, "train/loss")
        assert [point.step for point in sorted(curve, key=lambda p: p.timestamp)] == list(
            range(POINTS)
        )


def test_a_journal_is_sent_once_by_whoever_takes_it(server: MlflowServer, home: Path) -> None:
    since = now()
    outbox = Outbox(home)
    header = {"op": "create", "handle": "f" * 32, "uri": server.uri, "parent": None}
    header |= {"experiment": f"rosita-{TASK}", "name": "demo", "tags": {}, "time": now()}
    journal = outbox.start(header)
    assert outbox.take(journal.path) is None
    Delivery(home, server.uri).send(journal)
    first = journal.state.run_id
    # As after a crash: the state is from before the request.
    journal.state.run_id, journal.state.offset, journal.state.sent = None, 0, 0
    journal.note()
    journal.release()
    again = outbox.take(journal.path)
    assert again is not None
    Delivery(home, server.uri).send(again)
    assert again.state.run_id == first
    assert [run.info.run_id for run in runs(server, since)] == [first]


def test_a_parent_goes_before_a_child_of_the_same_moment(home: Path) -> None:
    outbox = Outbox(home)
    for handle, parent in (("a", "b"), ("b", None), ("c", "b")):
        outbox.start({"op": "create", "handle": handle, "parent": parent, "time": 5}).release()
    assert outbox.paths()[0].stem == "b"


def test_a_store_that_fails_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A database of another version of MLflow: MLflow is there, and can record nothing."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    home = tmp_path / "home"
    home.mkdir()
    with contextlib.closing(sqlite3.connect(home / "mlflow.db")) as database:
        database.execute("create table alembic_version (version_num varchar(32))")
        database.execute("insert into alembic_version values ('of another time')")
        database.execute("create table experiments (experiment_id integer)")
        database.commit()
    tracking, _, child = begin(home)
    began = time.monotonic()
    assert not tracking.flush(15)
    assert tracking.run_id(child, 10) is None
    assert time.monotonic() - began < 60
    assert any("MLflow" in record.message for record in caplog.records)


def test_a_run_ends_once(server: MlflowServer, home: Path) -> None:
    since = now()
    tracking, parent, child = begin(home)
    for run in (child, parent):
        tracking.finish(run, "FINISHED", {"score": 0.5}, {})
        tracking.finish(run, "KILLED", {"score": 0.0}, {})
    wait_until_sent(tracking)
    until(lambda: empty(home))
    tracking.finish(parent, "KILLED", {"score": 0.0}, {})
    wait_until_sent(tracking)
    found = runs(server, since)
    assert [run.info.status for run in found] == ["FINISHED", "FINISHED"]
    assert [run.data.metrics["score"] for run in found] == [0.5, 0.5]


def test_an_experiment_deleted_during_a_run_comes_back(
    server: MlflowServer, home: Path, checkpoint: Path
) -> None:
    since = now()
    tracking, parent, child = begin(home)
    learn(tracking, child, 0, 10)
    wait_until_sent(tracking)
    mlflow = client(server)
    experiment = mlflow.get_experiment_by_name(f"rosita-{TASK}")
    assert experiment is not None
    mlflow.delete_experiment(experiment.experiment_id)
    later = tracking.start_parent(TASK, "later", {}, 3, None, None)
    tracking.finish(later, "FINISHED", {}, {})
    wait_until_sent(tracking)
    mlflow.delete_experiment(experiment.experiment_id)
    learn(tracking, child, 10, 30)
    end(tracking, home, parent, child, checkpoint, "9" * 64)
    wait_until_sent(tracking)
    late = tracking.run_id(later)
    assert late is not None
    mlflow.delete_run(late)
    check_complete(server, since)
    assert not Home(home).refused.exists()


def sync_refused_into(home: Path, path: Path) -> None:
    path.write_text(json.dumps(asdict(sync(home, refused_too=True))))


def test_what_was_refused_can_be_asked_for_again(
    server: MlflowServer, home: Path, checkpoint: Path, tmp_path: Path
) -> None:
    since = now()
    tracking, parent, child = begin(home)
    learn(tracking, child, 0, 10)
    wait_until_sent(tracking)
    deleted = [tracking.run_id(run) for run in (child, parent)]
    for run_id in deleted:
        client(server).delete_run(run_id)
    learn(tracking, child, 10, 30)
    end(tracking, home, parent, child, checkpoint, "a" * 64)
    wait_until_sent(tracking)
    # Nothing but what was refused is left, with the files of the model.
    until(lambda: [path.name for path in Home(home).outbox.iterdir()] == ["refused"])
    before = sync(home).refused
    assert before > 0
    assert sync(home, refused_too=True).refused == before
    for run_id in deleted:
        client(server).restore_run(run_id)
    assert in_another_process(sync_refused_into, home, tmp_path / "report.json") == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert [run["problem"] for run in report["runs"]] == [None, None]
    assert report["refused"] == 0
    check_complete(server, since)
    assert len(versions(server, "a" * 64)) == 1
    assert list(Home(home).refused.iterdir()) == []


def test_the_next_run_records_what_a_killed_process_left(
    server: MlflowServer, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    since = now()
    assert in_another_process(die_in_the_middle, home) == -signal.SIGKILL
    assert waiting(home) == 2
    killed = [run.info.run_id for run in runs(server, since)]
    begin(home)

    def statuses() -> list[str]:
        return [client(server).get_run(run_id).info.status for run_id in killed]

    until(lambda: statuses() == ["KILLED", "KILLED"])
    until(lambda: waiting(home) == 0)
    wanted = "2 runs that ended before MLflow had all of them are recorded now"
    until(lambda: wanted in [record.message for record in caplog.records])


def test_an_error_beside_the_sending_does_not_end_it(server: MlflowServer, home: Path) -> None:
    since = now()
    failed: list[Outbox] = []

    def fail(outbox: Outbox) -> None:
        failed.append(outbox)
        raise OSError(5, "Input/output error")

    tracking, parent, child = begin(home)
    learn(tracking, child)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outbox, "tidy", fail)
        for run in (child, parent):
            tracking.finish(run, "FINISHED", {}, {})
        until(lambda: failed != [])
    later = tracking.start_parent(TASK, "later", {}, 3, None, None)
    tracking.finish(later, "FINISHED", {}, {})
    wait_until_sent(tracking)
    found = {run.info.run_name: run.info.status for run in runs(server, since)}
    assert found == {"demo": "FINISHED", "student": "FINISHED", "later": "FINISHED"}


def test_a_state_that_cannot_be_read_sends_everything_again(
    server: MlflowServer, home: Path
) -> None:
    since = now()
    assert in_another_process(die_in_the_middle, home) == -signal.SIGKILL
    for path, state in zip(Outbox(home).paths(), (b"", b'{"run_id": "a\xff'), strict=True):
        path.with_suffix(".json").write_bytes(state)
        path.with_name(f".{path.stem}.json.half").write_bytes(state)
    report = sync(home)
    assert [run.problem for run in report.runs] == [None, None]
    found = runs(server, since)
    assert [run.info.status for run in found] == ["KILLED", "KILLED"]
    losses = client(server).get_metric_history(found[1].info.run_id, "train/loss")
    assert sorted(point.step for point in losses) == list(range(POINTS))
    until(lambda: empty(home))
