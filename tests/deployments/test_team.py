"""A team's stack for real: PostgreSQL, Prefect's and MLflow's servers, an object store, two homes.

Everything is started by the commands of deployments/compose.yaml, with sign-in switched on.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from team_stack import ROOT, TeamStack
from typed_command import ROSITA, environment, run_rosita

from tasks.cache.metric_history import observations
from tasks.cache.records import attempts

pytestmark = [pytest.mark.deployments]

RECIPE = (
    *("--recipe", "smoke"),
    *("--set=data.limit_rows=96", "--set=numerics.threads=1", "--set=assess.latency_repeats=2"),
    *("--set=assess.latency_warmup=1", "--set=assess.latency_batch_sizes=[1, 2]"),
    "--set=export.formats=[hugging-face, onnx]",
)
LEAST = 50


@pytest.fixture(scope="module")
def stack() -> Iterator[TeamStack]:
    stack = TeamStack()
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def status(url: str, user: str = "", host: str = "") -> int:
    """What a server answers, to a user and under a name of its own."""
    headers = {"Host": host} if host else {}
    if user:
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_nobody_gets_in_without_signing_in(stack: TeamStack) -> None:
    prefect = f"{stack.prefect}/api/admin/version"
    mlflow = f"{stack.mlflow}/api/2.0/mlflow/experiments/get?experiment_id=0"
    for url, secret in ((prefect, "PREFECT_PASSWORD"), (mlflow, "MLFLOW_PASSWORD")):
        assert status(url) == 401
        assert status(url, "rosita:guess") == 401
        assert status(url, f"rosita:{stack.secrets[secret]}") == 200
    # Health needs no password; a name that is not the server's own is refused.
    assert status(f"{stack.prefect}/api/health") == 200
    assert status(f"{stack.mlflow}/health") == 200
    user = f"rosita:{stack.secrets['MLFLOW_PASSWORD']}"
    assert status(mlflow, user, host="mlflow:5000") == 200
    assert status(mlflow, user, host="evil.example.org") == 403
    # Passwords of the database are asked for over the network, and not kept as they are.
    stored = stack.psql("postgres", "select rolpassword from pg_authid where rolpassword <> ''")
    assert {line.partition("$")[0] for line in stored.split()} == {"SCRAM-SHA-256"}
    assert len(stored.split()) == 3


def test_two_homes_compute_once_and_everything_is_recorded(
    stack: TeamStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = stack.worker_environment()
    outputs = []
    documents = []
    for name in ("one", "two"):
        args = ("compress", *RECIPE, "--no-preflight", "--json")
        done = run_rosita(args, tmp_path / name, tmp_path / "prefect", environment)
        assert done.returncode == 0, done.stderr[-4000:]
        outputs += [done.stdout, done.stderr]
        documents.append(json.loads(done.stdout))
    first, second = documents
    assert {stage["status"] for stage in first["stages"]} == {"completed"}
    assert {stage["status"] for stage in second["stages"]} == {"cached"}
    assert [s["artifact"] for s in first["stages"]] == [s["artifact"] for s in second["stages"]]
    names = [stage["name"] for stage in second["stages"]]
    assert [made for name in names for made in attempts(tmp_path / "two", name)] == []
    # The course of a training comes with its result.
    key = next(stage["key"] for stage in first["stages"] if stage["name"] == "width")
    course = observations(tmp_path / "two", "width", 1, key)
    assert course == observations(tmp_path / "one", "width", 1, key)
    assert course
    # Prefect's server has both runs, in PostgreSQL.
    finished = stack.psql("prefect", "select count(*) from flow_run where state_type='COMPLETED'")
    assert int(finished) == 2
    # So has MLflow's, with the model in the object store.
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    for document in documents:
        run = client.get_run(document["mlflow_run_id"])
        assert run.info.status == "FINISHED"
        assert run.data.metrics["score"] == first["student"]["score"]
    versions = client.search_model_versions("name='rosita-smoke'")
    assert len(versions) >= 1
    objects = s3_objects()
    assert any(key.endswith("model.safetensors") for key in objects if key.startswith("mlflow/"))
    assert sum(key.startswith("rosita/store/results/") for key in objects) == len(first["stages"])
    # No secret is anywhere but in the environment.
    told = dict(enumerate(outputs)) | stack.logs()
    told |= {str(path): _text(path) for path in tmp_path.rglob("*") if path.is_file()}
    told |= {key: content.decode(errors="replace") for key, content in objects.items()}
    for database in ("prefect", "mlflow", "mlflow_auth"):
        told[database] = dump(stack, database)
    assert len(told) > LEAST
    assert [(where, name) for where, name in leaks(stack, told)] == []


def test_the_champion_answers(stack: TeamStack) -> None:
    """By the command of its service, of the graph that a home before it has registered."""
    stack.start_service("champion")
    try:
        asked = {"columns": ["text"], "data": [["A film to remember."], ["Dull."]]}
        url = f"{stack.champion}/invocations"
        answer = httpx.post(url, json={"dataframe_split": asked}, timeout=60)
        assert answer.status_code == 200, answer.text
        said = answer.json()["predictions"]
        assert [one.keys() for one in said] == [{"prediction", "probability"}] * 2
        assert {one["prediction"] for one in said} <= {"negative", "positive"}
    finally:
        stack.stop_service("champion")


def test_a_worker_runs_what_was_deployed(stack: TeamStack, tmp_path: Path) -> None:
    """By the worker's own command and those of TEAM.md; what the homes before it made is shared."""
    variables = environment(tmp_path / "home", tmp_path / "prefect", stack.worker_environment())
    prefect = str(Path(sys.executable).parent / "prefect")

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [prefect, *args], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300
        )

    command = stack.services["worker"]["command"]
    log = tmp_path / "worker.log"
    with log.open("w") as out:
        worker = subprocess.Popen(
            [str(ROSITA), *command[1:]], cwd=ROOT, env=variables, stdout=out, stderr=out
        )
    try:
        deadline = time.monotonic() + 120
        while run("work-pool", "inspect", "rosita").returncode:
            assert worker.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        done = run("--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
        assert done.returncode == 0, done.stdout + done.stderr
        settings = [part.removeprefix("--set=") for part in RECIPE[2:]]
        parameters = {"recipe": "smoke", "settings": settings, "preflight": "no"}
        asked = ("compress/nightly", "--params", json.dumps(parameters), "--watch")
        done = run("deployment", "run", *asked)
        assert done.returncode == 0, done.stdout + done.stderr + log.read_text()[-4000:]
    finally:
        worker.terminate()
        assert worker.wait(120) in (0, 143), log.read_text()[-4000:]
    (summary,) = (tmp_path / "home" / "runs").glob("*/summary.json")
    assert len(json.loads(summary.read_text())["stages"]) == 8
    told = {str(path): _text(path) for path in tmp_path.rglob("*") if path.is_file()}
    assert list(leaks(stack, told)) == []


def test_a_worker_finds_its_store(stack: TeamStack, tmp_path: Path) -> None:
    environment = stack.worker_environment()
    done = run_rosita(("doctor", "--json"), tmp_path / "home", tmp_path / "prefect", environment)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    for name in ("shared store", "prefect", "mlflow"):
        assert checks[name]["status"] == "ok", checks[name]
    assert checks["shared store"]["detail"].startswith("s3://rosita/store can be read, written")
    wrong = environment | {"ROSITA_STORE": "s3://not-there/store"}
    refused = run_rosita(
        ("compress", "--recipe", "smoke"), tmp_path / "home", tmp_path / "prefect", wrong
    )
    assert refused.returncode == 2
    assert "The specified bucket does not exist" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_dump_of_postgresql_brings_everything_back(stack: TeamStack) -> None:
    """By the commands of TEAM.md; the servers are stopped meanwhile."""
    runs = "select count(*) from flow_run"
    users = "select username from users"
    before = stack.psql("prefect", runs), stack.psql("mlflow_auth", users)
    stack.stop_service("prefect")
    stack.stop_service("mlflow")
    dumped = stack.postgres_tool("pg_dumpall", "--clean")
    stack.psql("postgres", "drop database prefect")
    stack.psql("postgres", "drop database mlflow_auth")
    stack.postgres_tool("psql", "--quiet", "--dbname=postgres", stdin=dumped)
    assert (stack.psql("prefect", runs), stack.psql("mlflow_auth", users)) == before
    stack.start_service("prefect")
    stack.start_service("mlflow")
    test_nobody_gets_in_without_signing_in(stack)


def s3_objects() -> dict[str, bytes]:
    """bucket/key -> content of everything in the object store."""
    # What `make test` runs without; its tests here are another target's.
    import boto3

    client = boto3.client("s3")
    found = {}
    for bucket in client.list_buckets()["Buckets"]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"])
        for key in (entry["Key"] for page in pages for entry in page.get("Contents", [])):
            body = client.get_object(Bucket=bucket["Name"], Key=key)["Body"].read()
            found[f"{bucket['Name']}/{key}"] = body
    return found


def dump(stack: TeamStack, database: str) -> str:
    """Every row of every table, as text."""
    tables = stack.psql(
        database, "select quote_ident(tablename) from pg_tables where schemaname='public'"
    ).split()
    return "".join(stack.psql(database, f"select * from {table}") for table in tables)


def leaks(stack: TeamStack, told: dict[object, str]) -> Iterator[tuple[object, str]]:
    for where, text in told.items():
        yield from ((where, name) for name, value in stack.secrets.items() if value in text)


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")
