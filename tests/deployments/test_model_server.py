"""A registered model and its graph behind HTTP, as `mlflow models serve` starts them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.models import Model
from serving import free_ports
from typed_command import Home

pytestmark = pytest.mark.deployments

REQUESTS = {"": 200, "-onnx": 1000}
AT_ONCE = 8
START_SECONDS = 300
TEXTS = ["A film to remember.", "Dull; far too long, and it knows it", "what?"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("served")
    home = Home(folder / "home", folder / "home" / "prefect", {})
    changes = ("--set", "export.formats=[hugging-face, onnx]", "--set", "assess.latency_repeats=1")
    done = home.run("compress", "--recipe", "smoke", *changes, "--json")
    assert done.returncode == 0, done.stderr
    return replace(home, summary=json.loads(done.stdout))


@dataclass(frozen=True)
class Server:
    """A champion that answers.

    Attributes:
        suffix: of its name.
        url: where it answers.
    """

    suffix: str
    url: str

    def post(self, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(self.url, json=body, timeout=60)


REFUSES = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "rosita_core", "tasks", "flows"):
            raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Refused())
print("without PyTorch:", *sys.orig_argv, file=sys.stderr)
"""
"""A sitecustomize for the graph's server and whatever processes it starts."""


@pytest.fixture(scope="module", params=REQUESTS)
def server(
    home: Home, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Server]:
    """The champion, and the champion of its graphs where PyTorch cannot be imported."""
    (port,) = free_ports(1)
    folder = tmp_path_factory.mktemp("server")
    log = folder / "server.log"
    variables = {"MLFLOW_TRACKING_URI": f"sqlite:///{home.home / 'mlflow.db'}"}
    variables["PYTHONSAFEPATH"] = "1"
    # MLflow calls uvicorn by its name.
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    name = home.summary["registered_model"]["name"] + request.param
    if request.param:
        (folder / "sitecustomize.py").write_text(REFUSES)
        variables["PYTHONPATH"] = str(folder)
        refused = subprocess.run(
            [sys.executable, "-c", "import torch"], env=os.environ | variables, capture_output=True
        )
        assert b"torch must not be needed" in refused.stderr
    command += ["--model-uri", f"models:/{name}@champion", "--port", str(port)]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, env=os.environ | variables, stdout=sink, stderr=sink, start_new_session=True
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not answers(f"http://127.0.0.1:{port}/ping"):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
            if request.param:
                assert re.search("^without PyTorch: .*uvicorn", log.read_text(), re.MULTILINE)
            yield Server(request.param, f"http://127.0.0.1:{port}/invocations")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_both_are_registered_alike_and_say_what_they_read(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home.home / 'mlflow.db'}")
    client = MlflowClient()
    registered = home.summary["registered_model"]["name"]
    versions = [
        client.get_model_version_by_alias(f"{registered}{one}", "champion") for one in REQUESTS
    ]
    torch, graph = ({**one.tags} for one in versions)
    for tags in (torch, graph):
        del tags["rosita.handle"], tags["rosita.model_id"]
    assert torch == graph
    assert versions[0].run_id == versions[1].run_id == home.summary["mlflow_run_id"]
    assert versions[0].description == versions[1].description
    outputs = client.get_run(str(versions[0].run_id)).outputs
    assert outputs is not None and len(outputs.model_outputs) == 2
    summary = json.loads((home.home / "runs" / home.summary["run_id"] / "summary.json").read_text())
    assert summary["registered_model"]["name"] == registered
    first = pd.read_parquet(home.artifact("data") / "splits" / "dev.parquet")["text_a"][0]
    libraries = ("torch transformers", "onnxruntime tokenizers numpy")
    for one, needed in zip(versions, libraries, strict=True):
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{one.name}/1"))
        model = Model.load(folder)
        assert model.signature is not None
        assert model.load_input_example(str(folder)).to_dict("records") == [{"text": first}]
        assert model.signature.inputs.required_input_names() == ["text"]
        assert model.signature.outputs.input_names() == ["prediction", "probability"]
        lines = (folder / "requirements.txt").read_text().split()
        assert lines == [
            f"{name}=={version(name).split('+')[0]}" for name in ("mlflow", *needed.split())
        ]
        # No other format is copied with it.
        assert [path.name for path in (folder / "artifacts").rglob("*") if path.is_dir()] == [
            next(iter((folder / "artifacts").iterdir())).name
        ]


def asked(texts: list[str], column: str = "text") -> dict[str, Any]:
    return {"dataframe_split": {"columns": [column], "data": [[text] for text in texts]}}


def test_it_answers_as_the_command_does(server: Server, home: Home) -> None:
    # More than the model reads at once.
    texts = TEXTS * 15
    answer = server.post(asked(texts))
    assert answer.status_code == 200, answer.text
    said = answer.json()["predictions"]
    version = "/1" if server.suffix else "@champion"
    model = f"models:/{home.summary['registered_model']['name']}{server.suffix}{version}"
    done = home.run("predict", "--json", "--model", model, stdin="\n".join(texts) + "\n")
    document = json.loads(done.stdout)
    assert document["model"].endswith("/onnx") == bool(server.suffix)
    assert [one.keys() for one in said] == [one.keys() for one in document["predictions"]]
    for ours, theirs in zip(said, document["predictions"], strict=True):
        assert ours["prediction"] == theirs["prediction"]
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-4)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (asked(TEXTS, "review"), "text"),
        (asked([*TEXTS, " "]), "text must be a text that is not empty, got ' ' in row 4"),
        (
            {"dataframe_split": {"columns": ["text", "text_b"], "data": [["a", "b"]]}},
            "input must have the column text_b left out for this model",
        ),
        ({"rows": TEXTS}, "dataframe_split"),
        ({"dataframe_split": {"columns": ["text"], "data": [["a", "b"]]}}, "dataframe_split"),
    ],
)
def test_what_it_cannot_read_is_refused_and_it_goes_on(
    server: Server, body: dict[str, Any], message: str
) -> None:
    answer = server.post(body)
    assert 400 <= answer.status_code < 500, answer.text
    assert message in answer.text
    assert server.post(asked(TEXTS[:1])).status_code == 200


def test_many_requests_by_eight_at_once_lose_nothing(server: Server) -> None:
    requests = REQUESTS[server.suffix]
    alone = {text: server.post(asked([text])).json()["predictions"][0] for text in TEXTS}

    def one(number: int) -> tuple[float, Any]:
        began = time.perf_counter()
        answer = client.post(server.url, json=asked([TEXTS[number % len(TEXTS)]]))
        assert answer.status_code == 200, answer.text
        return time.perf_counter() - began, answer.json()["predictions"]

    with httpx.Client(timeout=120) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(one, range(requests)))
    assert len(found) == requests
    for number, (_, rows) in enumerate(found):
        assert len(rows) == 1
        expected = alone[TEXTS[number % len(TEXTS)]]
        assert rows[0]["prediction"] == expected["prediction"]
        assert rows[0]["probability"] == pytest.approx(expected["probability"], abs=1e-5)
    p50, p95 = np.percentile([1000 * seconds for seconds, _ in found], [50, 95])
    kind = "onnx" if server.suffix else "torch"
    print(f"{kind}: {requests:,} requests, {AT_ONCE} at once: p50 {p50:.1f} ms, p95 {p95:.1f} ms")
