"""A compressed model, or the graph made of it, as a logged model of MLflow that is registered."""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from tasks.host.private_files import make_private
from tasks.tracking.served_model import ANSWERS, GRAPH, TEXT, TEXT_B
from tasks.tracking.tags import ARTIFACT_TAG, FINGERPRINT_TAG, SCORE_TAG

VERSIONS_TAG = "mlflow.modelVersions"
TOKEN_TAG = "rosita.handle"
# On a version: SQL stores do not keep the id of the logged model that it is given.
MODEL_TAG = "rosita.model_id"
"""By which versions are compared; the score of one fingerprint says nothing of another's."""
CHAMPION = "champion"
# What the served model imports; pandas comes with MLflow.
REQUIREMENTS = ("mlflow", "torch", "transformers")
GRAPH_REQUIREMENTS = ("mlflow", "onnxruntime", "tokenizers", "numpy")


def register(
    client: MlflowClient,
    experiment: str,
    run_id: str,
    operation: Mapping[str, Any],
    files: Path,
    scratch: Path,
) -> dict[str, str]:
    """Carry out a `register` operation; returns name, version, id and address of the model.

    Whatever of it exists already is used and not made again, so that it can be repeated.

    Args:
        experiment: the id of the run's experiment.
        files: where the operation's checkpoint is.
        scratch: a folder on a disk that has room for a copy.
    """
    name, token = operation["name"], operation["token"]
    version = _find_version(client, name, TOKEN_TAG, token)
    if version is None and operation["artifact"] is not None:
        version = _find_version(client, name, ARTIFACT_TAG, operation["artifact"])
    if version is None:
        logged = _logged_model(client, experiment, run_id, operation, files, scratch)
        version = _new_version(client, run_id, operation, logged)
    number, model_id = str(version.version), version.tags[MODEL_TAG]
    _relate(client, run_id, model_id)
    # The UI shows the versions of a logged model by this tag.
    shown = json.dumps([{"name": name, "version": number}])
    client.set_logged_model_tags(model_id, {VERSIONS_TAG: shown})
    return {
        "name": name,
        "version": number,
        "model_id": model_id,
        "uri": f"models:/{name}/{number}",
    }


def _find_version(client: MlflowClient, name: str, tag: str, value: str) -> ModelVersion | None:
    """The oldest version with a tag whose model is still there."""
    found = client.search_model_versions(f"name = '{name}' and tags.`{tag}` = '{value}'")
    for version in sorted(found, key=lambda one: int(one.version)):
        if MODEL_TAG not in version.tags:
            continue
        try:
            client.get_logged_model(version.tags[MODEL_TAG])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            continue
        return version
    return None


def _logged_model(
    client: MlflowClient,
    experiment: str,
    run_id: str,
    operation: Mapping[str, Any],
    files: Path,
    scratch: Path,
) -> LoggedModel:
    token = operation["token"]
    found = client.search_logged_models([experiment], f"tags.`{TOKEN_TAG}` = '{token}'")
    logged = found[0] if found else None
    if logged is None:
        logged = client.create_logged_model(
            experiment,
            name=operation["name"],
            source_run_id=run_id,
            params=operation["params"],
            tags=_tags(operation),
            model_type="text-classification",
        )
    if str(logged.status) != "READY":
        if not (files / operation["files"]).is_dir():
            raise ValueError(f"files of {operation['name']} must be there, got none in {files}")
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=scratch) as place:
            folder = Path(place) / "model"
            _save(folder, files / operation["files"], run_id, operation, logged)
            client.log_model_artifacts(logged.model_id, str(folder))
        client.finalize_logged_model(logged.model_id, "READY")
    return logged


def _save(
    folder: Path, checkpoint: Path, run_id: str, operation: Mapping[str, Any], logged: LoggedModel
) -> None:
    # Earlier versions left these out of what they wrote down.
    example = operation.get("example")
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(Path(__file__).with_name("served_model.py")),
        artifacts={"checkpoint": str(checkpoint)},
        signature=_signature(operation.get("reads_pairs"), operation.get("regression", False)),
        input_example=None if example is None else pd.DataFrame([example]),
        pip_requirements=_requirements((checkpoint / GRAPH).is_file()),
        mlflow_model=Model(
            artifact_path=logged.artifact_location,
            run_id=run_id,
            model_id=logged.model_id,
        ),
    )
    # The code is copied with the mode that it has where it is installed.
    for path in folder.rglob("*"):
        make_private(path)


def _relate(client: MlflowClient, run_id: str, model_id: str) -> None:
    """Name a model as an output of a run; the store would note the same one twice."""
    outputs = client.get_run(run_id).outputs
    known = {one.model_id for one in outputs.model_outputs} if outputs is not None else set()
    if model_id not in known:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def _new_version(
    client: MlflowClient, run_id: str, operation: Mapping[str, Any], logged: LoggedModel
) -> ModelVersion:
    name = operation["name"]
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        name,
        # Not models:/<id>: the store would look that up in MLflow's global default store.
        source=logged.artifact_location,
        run_id=run_id,
        tags=_tags(operation) | {MODEL_TAG: logged.model_id},
        model_id=logged.model_id,
        description=operation.get("description") or None,
    )
    _choose_champion(client, name, version)
    return version


def _choose_champion(client: MlflowClient, name: str, version: ModelVersion) -> None:
    """The alias `champion` goes to a version that is better on the same dev rows, or the first."""
    try:
        champion = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        client.set_registered_model_alias(name, CHAMPION, version.version)
        return
    theirs, ours = champion.tags, version.tags
    comparable = ours.get(FINGERPRINT_TAG) == theirs.get(FINGERPRINT_TAG) is not None
    if comparable and float(ours[SCORE_TAG]) > float(theirs[SCORE_TAG]):
        client.set_registered_model_alias(name, CHAMPION, version.version)


def _tags(operation: Mapping[str, Any]) -> dict[str, str]:
    tags = dict(operation["tags"]) | {TOKEN_TAG: operation["token"]}
    if operation["artifact"] is not None:
        tags[ARTIFACT_TAG] = operation["artifact"]
    return tags


def _signature(reads_pairs: bool | None, regression: bool) -> ModelSignature:
    # MLflow drops columns that are not named here; the model itself refuses what does not fit it.
    first = ColSpec(DataType.string, TEXT)
    second = ColSpec(DataType.string, TEXT_B, required=reads_pairs is True)
    types = (DataType.double,) if regression else (DataType.string, DataType.double)
    names = ANSWERS[len(types)]
    return ModelSignature(
        inputs=Schema([first, second]),
        outputs=Schema([ColSpec(kind, name) for kind, name in zip(types, names, strict=True)]),
    )


def _requirements(graph: bool) -> list[str]:
    names = GRAPH_REQUIREMENTS if graph else REQUIREMENTS
    versions = {name: importlib.metadata.version(name).split("+")[0] for name in names}
    return [f"{name}=={version}" for name, version in versions.items()]
