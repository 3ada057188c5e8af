"""A registered model behind HTTP, as `mlflow models serve` starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from serving import free_ports
from typed_command import Home

pytestmark = pytest.mark.deployments

REQUESTS, AT_ONCE = 1000, 8
START_SECONDS = 300
TEXTS = ["A film to remember.", "Dull; far too long, and it knows it", "what?"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("served")
    home = Home(folder / "home", folder / "home" / "prefect", {})
    done = home.run("compress", "--recipe", "smoke", "--json")
    assert done.returncode == 0, done.stderr
    return replace(home, summary=json.loads(done.stdout))


@pytest.fixture(scope="module")
def server(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the champion."""
    (port,) = free_ports(1)
    log = tmp_path_factory.mktemp("log") / "server.log"
    variables = {"MLFLOW_TRACKING_URI": f"sqlite:///{home.home / 'mlflow.db'}"}
    variables["PYTHONSAFEPATH"] = "1"
    # MLflow calls uvicorn by its name.
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    name = home.summary["registered_model"]["name"]
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
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def asked(texts: list[str], column: str = "text") -> dict[str, Any]:
    return {"dataframe_split": {"columns": [column], "data": [[text] for text in texts]}}


def test_it_answers_as_the_command_does(server: str, home: Home) -> None:
    answer = httpx.post(server, json=asked(TEXTS), timeout=60)
    assert answer.status_code == 200, answer.text
    said = [(one["label"], one["score"]) for one in answer.json()["predictions"]]
    done = home.run("predict", stdin="\n".join(TEXTS) + "\n")
    printed = [line.split("\t") for line in done.stdout.splitlines()]
    assert [label for label, _ in said] == [label for label, _ in printed]
    assert [score for _, score in said] == pytest.approx([float(s) for _, s in printed], abs=1e-4)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (asked(TEXTS, "review"), "text"),
        ({"rows": TEXTS}, "dataframe_split"),
        ({"dataframe_split": {"columns": ["text"], "data": [["a", "b"]]}}, "dataframe_split"),
    ],
)
def test_what_it_cannot_read_is_refused_and_it_goes_on(
    server: str, body: dict[str, Any], message: str
) -> None:
    answer = httpx.post(server, json=body, timeout=60)
    assert 400 <= answer.status_code < 500, answer.text
    assert message in answer.text
    assert httpx.post(server, json=asked(TEXTS[:1]), timeout=60).status_code == 200


def test_a_thousand_requests_by_eight_at_once_lose_nothing(server: str) -> None:
    alone = {
        text: httpx.post(server, json=asked([text]), timeout=60).json()["predictions"][0]
        for text in TEXTS
    }

    def one(number: int) -> tuple[float, Any]:
        began = time.perf_counter()
        answer = client.post(server, json=asked([TEXTS[number % len(TEXTS)]]))
        assert answer.status_code == 200, answer.text
        return time.perf_counter() - began, answer.json()["predictions"]

    with httpx.Client(timeout=120) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(one, range(REQUESTS)))
    for number, (_, rows) in enumerate(found):
        assert len(rows) == 1
        expected = alone[TEXTS[number % len(TEXTS)]]
        assert rows[0]["label"] == expected["label"]
        assert rows[0]["score"] == pytest.approx(expected["score"], abs=1e-5)
    p50, p95 = np.percentile([1000 * seconds for seconds, _ in found], [50, 95])
    print(f"{REQUESTS:,} requests, {AT_ONCE} at once: p50 {p50:.1f} ms, p95 {p95:.1f} ms")
