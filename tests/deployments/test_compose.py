"""deployments/compose.yaml as compose's own tool reads it."""

from __future__ import annotations

import re

import pytest
import yaml
from team_stack import FOLDER, SECRETS, compose, configured

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
    }


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
            for source in line.split():
                assert (FOLDER.parent / source).exists(), source


def test_the_object_store_may_be_another_one() -> None:
    given = GIVEN | {"S3_ENDPOINT": "https://s3.example.org", "STORE_BUCKET": "ours"}
    services = configured(given)
    for name in ("worker", "mlflow", "buckets"):
        assert services[name]["environment"]["AWS_ENDPOINT_URL"] == "https://s3.example.org"
    assert services["worker"]["environment"]["ROSITA_STORE"] == "s3://ours/store"
