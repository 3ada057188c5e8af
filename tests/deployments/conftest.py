"""One Prefect server and one MLflow server with everything deployed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed_stack import LOST_AFTER, ROOT, Stack
from serving import is_free, serving
from typed_command import Home
from walks import PORTS

TEMPLATE = ("--base-job-template", "deployments/work-pool.json")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("deployed")
    place = Home(folder / "home", folder / "prefect", {})
    with serving(place) as running:
        made = Stack(place.home, place.prefect, running.ports, running.process)
        # By Prefect's own commands; the queue and its limit are a worker's affair.
        automations = folder / "automations.yaml"
        text = (ROOT / "deployments" / "automations.yaml").read_text(encoding="utf-8")
        automations.write_text(text.replace("within: 120", f"within: {LOST_AFTER}"))
        for command in (
            ("automation", "create", "--from-file", str(automations)),
            ("work-pool", "create", "rosita", "--type", "process", *TEMPLATE),
            ("--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml"),
        ):
            done = made.prefect(*command)
            assert done.returncode == 0, done.stdout + done.stderr
        yield made


@pytest.fixture
def free_ports() -> None:
    """Those that the walks type must be free."""
    taken = [port for port in PORTS if not is_free(port)]
    if taken:
        pytest.fail(f"ports {taken} must be free for what is typed; stop what listens there")
