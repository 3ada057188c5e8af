"""A run without MLflow, and `rosita sync` once there is one, as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from compressions import cached_home
from mlflow import MlflowClient
from serving import free_ports
from typed_command import Home, RunRosita

from flows.services.servers import mlflow_server, running, stop_requests, wait_until_ready
from flows.serving.lookup import run_of

SECRET = "s3cret-of-someone"


def test_a_run_without_mlflow_is_sent_later(
    in_own_process: RunRosita, smoke_home: Home, mlflow_tables: Path, tmp_path: Path
) -> None:
    home = cached_home(smoke_home.home, tmp_path / "home", mlflow_tables)
    (port,) = free_ports(1)
    uri = f"http://127.0.0.1:{port}"
    # A server that asks for no name takes any.
    login = {"MLFLOW_TRACKING_URI": uri.replace("//", f"//someone:{SECRET}@")}
    said: list[str] = []
    # The last stages are computed, the others are taken from the cache.
    change = "width.keep_heads=1"
    done = in_own_process(
        "compress",
        "--recipe",
        "smoke",
        "--set",
        change,
        home=home,
        env=login,
    )
    said += (done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr
    assert "MLflow does not answer: `rosita sync` sends what is kept" in done.stdout
    assert done.stderr.count(f"MLflow at {uri} does not answer (it cannot be reached)") == 1
    (path,) = (home / "runs").glob("*/summary.json")
    summary = json.loads(path.read_text(encoding="utf-8"))
    assert (summary["mlflow_run_id"], summary["registered_model"]) == (None, None)
    assert run_of(summary["recorded_as"], home).run_id == summary["run_id"]

    doctor = in_own_process("doctor", home=home, env=login)
    assert f"{1 + len(summary['stages'])} runs of ended processes not sent" in " ".join(
        doctor.stdout.replace("│", " ").split()
    )
    failed = in_own_process("sync", home=home, env=login)
    said += (doctor.stdout, doctor.stderr, failed.stdout, failed.stderr)
    assert failed.returncode == 1
    assert failed.stderr.strip().endswith(f"could not be sent to {uri}: it cannot be reached")

    shutil.copy(mlflow_tables, tmp_path / "server.db")
    server = mlflow_server(port, f"sqlite:///{tmp_path}/server.db", tmp_path / "art", tmp_path)
    with stop_requests() as stop, running([server]) as processes:
        wait_until_ready([server], processes, stop)
        ended = path.stat().st_mtime_ns
        sent = in_own_process("sync", "--json", home=home, env=login)
        said += (sent.stdout, sent.stderr)
        assert sent.returncode == 0, sent.stderr
        report = json.loads(sent.stdout)
        assert report["in_use"] == 0
        assert report["runs"][0]["name"] == summary["name"] == "smoke-kd-4-s42"
        assert len(report["runs"]) == 1 + len(summary["stages"])
        assert all(run["run_id"] and run["problem"] is None for run in report["runs"])

        filled = json.loads(path.read_text(encoding="utf-8"))
        # It says when the run ended, and so which run is the newest.
        assert path.stat().st_mtime_ns == ended
        assert filled["registered_model"]["uri"] == "models:/rosita-smoke/1"
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        parent = client.get_run(filled["mlflow_run_id"])
        found = client.search_runs(
            [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
        )
        stages = {run.data.tags["rosita.stage"]: run for run in found}
        assert len(found) == len(stages)
        assert {run.info.status for run in (parent, *found)} == {"FINISHED"}
        for entry in summary["stages"]:
            tags = stages[entry["name"]].data.tags
            assert tags["rosita.artifact"] == entry["artifact"]
            assert tags["rosita.cached"] == str(entry["status"] == "cached").lower()
        curve = client.get_metric_history(stages["width"].info.run_id, "train/loss")
        assert len(curve) > 2
        files = {file.path for file in client.list_artifacts(parent.info.run_id)}
        assert files == {"errors.csv", "recipe.json", "summary.json"}

        # The home's own store has all of it, too; either id is accepted.
        own = MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")
        ours = own.get_run(filled["recorded_as"])
        assert ours.data.metrics == parent.data.metrics
        assert ours.data.params == parent.data.params
        for run in (filled["recorded_as"], filled["mlflow_run_id"], "models:/rosita-smoke/1"):
            assert run_of(run, home).run_id == summary["run_id"]
        again = in_own_process("sync", home=home)
        assert (again.returncode, again.stdout) == (0, "nothing waits\n"), again.stderr
    assert SECRET not in "".join(said)
    files = [path for path in home.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
