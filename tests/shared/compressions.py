"""Compressions of a test's own, and what they left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from command_line import rosita
from mlflow import MlflowClient
from mlflow.entities import Run

NAMES = ["data", "teacher", "augment", "student", "depth", "width", "assess", "export"]
CACHE = ("store", "results", "attempts", "downloads", "locks")
"""What later runs read of a home."""
TINY = (
    "assess.latency_repeats=2",
    "assess.latency_warmup=1",
    "assess.latency_batch_sizes=[1, 2]",
    "assess.latency_tokens=16",
    "numerics.threads=1",
)


def cached_home(source: Path, target: Path, tables: Path) -> Path:
    """A home with the cache of another and an MLflow store of its own."""
    for name in CACHE:
        shutil.copytree(source / name, target / name)
    shutil.copy(tables, target / "mlflow.db")
    return target


def compressed(home: Path, recipe: str, *changes: str) -> dict[str, Any]:
    """The summary of a `rosita compress` that must succeed."""
    sets = [f"--set={change}" for change in changes]
    done = rosita("compress", "--recipe", recipe, *sets, "--json", home=home)
    assert done.code == 0, done.stderr
    path = home / "runs" / done.document["run_id"] / "summary.json"
    assert done.document == json.loads(path.read_text(encoding="utf-8"))
    return done.document


def status(summary: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["status"] for stage in summary["stages"]}


def artifact(summary: dict[str, Any], name: str) -> str:
    return next(str(stage["artifact"]) for stage in summary["stages"] if stage["name"] == name)


def client(home: Path) -> MlflowClient:
    uri = f"sqlite:///{home}/mlflow.db"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def runs(home: Path, summary: dict[str, Any]) -> tuple[Run, dict[str, Run]]:
    """The parent run of a compression and its child runs by stage."""
    store = client(home)
    parent = store.get_run(summary["mlflow_run_id"])
    found = store.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    return parent, {run.data.tags["rosita.stage"]: run for run in found}
