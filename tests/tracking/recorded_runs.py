"""Runs as a flow records them, and what MLflow has of them."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from contexts import stage_context
from forked_command import FORKS, server_environment
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow_server import MlflowServer

from tasks.cache.stage_key import Stage
from tasks.store.artifacts import write_json
from tasks.tracking.abandoned import open_runs
from tasks.tracking.runs import Tracking
from tasks.tracking.sync import sync

TASK = "sst2"
POINTS = 40
# So long on the busiest machine.
PATIENCE = 120.0


@dataclass(frozen=True)
class Settings:
    rate: float


NUMERICS = {"device": "cpu", "precision": "fp32", "hardware": "AVX2", "deterministic": True}
STAGE = Stage("student", ("rosita_core.stages",), Settings(2e-5), {}, NUMERICS)


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
        graph = ("rosita-sst2-onnx", checkpoint, artifact, {"r": 1}, {"t": "u"})
        tracking.log_model(parent, *graph, example={"text": "a"})
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
    # The checkpoint, and its graph beside it.
    assert (whole["demo"]["models"], len(whole["student"]["data"])) == (2, 1)
    return whole


def versions(server: MlflowServer, artifact: str) -> list[str]:
    """Of the checkpoint; its graph has as many."""
    tagged = f"tags.`rosita.artifact` = '{artifact}'"
    names = ("rosita-sst2", "rosita-sst2-onnx")
    both = [client(server).search_model_versions(f"name = '{one}' and {tagged}") for one in names]
    assert len(both[0]) == len(both[1])
    return [str(one.version) for one in both[0]]


def in_another_process(function: Callable[..., None], *args: Any) -> int:
    """The exit code of a process that runs a function of a module."""
    process = FORKS.Process(target=_with, args=(dict(os.environ), function, args))
    with server_environment():
        process.start()
    process.join(PATIENCE)
    assert process.exitcode is not None
    return process.exitcode


def _with(variables: Mapping[str, str], function: Callable[..., None], args: Any) -> None:
    os.environ.clear()
    os.environ.update(variables)
    function(*args)


def sync_into(home: Path, path: Path) -> None:
    path.write_text(json.dumps(asdict(sync(home))))


def sync_refused_into(home: Path, path: Path) -> None:
    path.write_text(json.dumps(asdict(sync(home, refused_too=True))))


def synced(home: Path) -> dict[str, Any]:
    """`sync` as the command does it, in a process of its own."""
    path = home.parent / "report.json"
    assert in_another_process(sync_into, home, path) == 0
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def empty(home: Path) -> bool:
    """Whether every run of a home is closed, and at the server."""
    return open_runs(home) == []


def record_a_run(home: Path, checkpoint: Path, artifact: str) -> None:
    tracking, parent, child = begin(home)
    learn(tracking, child)
    end(tracking, home, parent, child, checkpoint, artifact)
    tracking.flush(5)
