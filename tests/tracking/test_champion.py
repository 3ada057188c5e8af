"""Which registered version `champion` names."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from tasks.tracking.models import Registration, register
from tasks.tracking.tags import FINGERPRINT_TAG, SCORE_TAG


@pytest.fixture
def client(tmp_path: Path, mlflow_tables: Path) -> MlflowClient:
    shutil.copy(mlflow_tables, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return MlflowClient(uri, uri)


def registered(client: MlflowClient, place: Path, number: int, tags: Mapping[str, str]) -> str:
    """Register the model of a run as a version; its number."""
    experiment = client.get_experiment_by_name("it")
    files = (place / "files").as_uri()
    of = client.create_experiment("it", files) if experiment is None else experiment.experiment_id
    run = client.create_run(of).info.run_id

    def save(folder: Path, logged: LoggedModel) -> None:
        folder.mkdir()
        Model(run_id=run, model_id=logged.model_id).save(str(folder / "MLmodel"))

    wanted = Registration("it", f"token-{number}", str(number) * 64, {}, tags)
    return register(client, of, run, wanted, save, place)["version"]


def scored(rows: str, score: float) -> dict[str, str]:
    return {FINGERPRINT_TAG: rows, SCORE_TAG: repr(score)}


def champion(client: MlflowClient) -> int:
    return int(client.get_model_version_by_alias("it", "champion").version)


def test_a_version_whose_maker_ended_too_soon_is_chosen_by_who_repeats_it(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any, **__: Any) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "set_registered_model_alias", lost)
        with pytest.raises(ConnectionError):
            registered(client, tmp_path, 1, {})
    assert registered(client, tmp_path, 1, {}) == "1"
    assert champion(client) == 1


def test_a_server_that_fails_to_answer_names_no_new_champion(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any) -> None:
        raise MlflowException("database is locked", TEMPORARILY_UNAVAILABLE)

    registered(client, tmp_path, 1, scored("rows", 0.9))
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "get_model_version_by_alias", busy)
        with pytest.raises(MlflowException, match="database is locked"):
            registered(client, tmp_path, 2, scored("rows", 0.1))
    registered(client, tmp_path, 2, scored("rows", 0.1))
    assert champion(client) == 1


def test_what_was_scored_on_other_rows_is_not_compared_and_that_is_said_once(
    client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    registered(client, tmp_path, 1, scored("rows", 0.5))
    registered(client, tmp_path, 2, scored("rows", 0.6))
    assert (champion(client), caplog.messages) == (2, [])
    for _ in range(2):
        registered(client, tmp_path, 3, scored("newer rows", 0.9))
    assert champion(client) == 2
    assert caplog.messages == [
        "version 3 of it was scored on other dev rows than its champion, version 2, and is not "
        "compared with it"
    ]
