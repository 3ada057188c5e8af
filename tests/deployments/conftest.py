"""One Prefect server and one MLflow server with everything deployed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed_stack import LOST_AFTER, Stack
from serving import serving
from typed_command import Home

from flows.services.work_pool import prepare_work_pool


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("deployed")
    place = Home(folder / "home", folder / "prefect", {})
    with serving(place) as running:
        made = Stack(place.home, place.prefect, running.ports, running.process)
        prepare_work_pool(made.api, lost_after=LOST_AFTER)
        done = made.prefect(
            *("--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield made
