"""deployments/compose.yaml as compose's own tool reads it."""

from __future__ import annotations

import re

import pytest
import yaml
from mlflow.models.cli import serve
from team_stack import FOLDER, SECRETS, compose, configured

from tasks.tracking.models import GRAPH_REQUIREMENTS

GIVEN = dict.fromkeys(SECRETS, "given")

pytestmark = [pytest.mark.deployments]


def test_every_secret_is_required_and_none_is_in_the_file() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    for name in SECRETS:
        done = compose({other: "given" for other in SECRETS if other != name})
        assert done.returncode != 0
        assert name in done.stderr
        assert "see .env.example" in done.stderr
        # Asked for wherever it is used, and never with a default.
        assert set(re.findall(rf"\$\{{{name}[^}}]*\}}", text)) == {f"${{{name}:?see .env.example}}"}
    example = (FOLDER / ".env.example").read_text()
    assert re.findall(r"^(\w+)=$", example, re.MULTILINE) == [
        name for name in re.findall(r"^(\w+)=", example, re.MULTILINE) if name in SECRETS
    ]
    assert {*re.findall(r"^(\w+)=$", example, re.MULTILINE)} == set(SECRETS)


def test_ports_are_published_on_loopback_only() -> None:
    services = configured(GIVEN)
    published = {name: one["ports"] for name, one in services.items() if one.get("ports")}
    assert published == {
        "prefect": ["127.0.0.1:4200:4200/tcp"],
        "mlflow": ["127.0.0.1:5000:5000/tcp"],
        "champion": ["127.0.0.1:5001:5001/tcp"],
    }
    # It has no sign-in, so that what lets others in to the servers does not let them in to it.
    opened = configured(GIVEN | {"PUBLISH": "0.0.0.0"})
    assert opened["champion"]["ports"] == published["champion"]
    assert opened["mlflow"]["ports"] == ["0.0.0.0:5000:5000/tcp"]


def test_services_restart_are_watched_and_bounded() -> None:
    services = configured(GIVEN)
    for name, service in services.items():
        assert service["restart"] == ("on-failure:5" if name == "buckets" else "unless-stopped")
        if name == "buckets":
            continue
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
        assert ("healthcheck" in service) == (not name.startswith("worker"))
    devices = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert (
        services["worker-gpu"]["command"] == services["worker"]["command"] == ["rosita", "worker"]
    )


def test_the_champion_is_served_by_options_that_there_are_in_an_image_without_pytorch() -> None:
    service = configured(GIVEN)["champion"]
    assert service["command"][:3] == ["mlflow", "models", "serve"]
    given = service["command"][3:]
    options = {name for one in serve.params for name in one.opts}
    assert set(given[::2]) <= options
    assert dict(zip(given[::2], given[1::2], strict=True)) == {
        "--model-uri": "models:/rosita-film-reviews-onnx@champion",
        "--env-manager": "local",
        "--host": "0.0.0.0",
        "--port": "5001",
    }
    # It is told of no store: MLflow's server hands the files on.
    assert {name.partition("_")[0] for name in service["environment"]} == {"MLFLOW"}
    dockerfile = (FOLDER / "images/champion/Dockerfile").read_text()
    [installed] = re.findall(r"requirements.lock \\\n +(.*)$", dockerfile, re.MULTILINE)
    assert set(installed.split()) == set(GRAPH_REQUIREMENTS)


def test_images_have_exact_versions_and_are_those_of_the_lock() -> None:
    raw = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    assert raw.keys() - {name for name in raw if "build" in raw[name]} == {"postgres", "objects"}
    for name, service in raw.items():
        if "build" not in service:
            assert re.fullmatch(r"[\w./-]+:\d[\w.-]*\d[\w.-]*", service["image"]), name
            continue
        dockerfile = FOLDER.parent / service["build"]["dockerfile"]
        # Everything that is copied is there to be copied.
        for line in re.findall(r"^COPY (.*) \S+$", dockerfile.read_text(), re.MULTILINE):
            sources = [word for word in line.split() if not word.startswith("--")]
            for source in sources:
                assert (FOLDER.parent / source).exists(), source


def test_the_object_store_may_be_another_one() -> None:
    given = GIVEN | {"S3_ENDPOINT": "https://s3.example.org", "STORE_BUCKET": "ours"}
    services = configured(given)
    for name in ("worker", "mlflow", "buckets"):
        assert services[name]["environment"]["AWS_ENDPOINT_URL"] == "https://s3.example.org"
    assert services["worker"]["environment"]["ROSITA_STORE"] == "s3://ours/store"
