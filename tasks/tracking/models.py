"""A compressed model, or the graph made of it, as a logged model of MLflow that is registered."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.utils.file_utils import local_file_uri_to_path

from tasks.host.logs import warn
from tasks.host.private_files import make_private
from tasks.tracking.errors import is_refusal
from tasks.tracking.served_model import ANSWERS, GRAPH, TEXT, TEXT_B
from tasks.tracking.tags import (
    ARTIFACT_TAG,
    FINGERPRINT_TAG,
    GRAPH_SUFFIX,
    HANDLE_TAG,
    SCORE_TAG,
)

VERSIONS_TAG = "mlflow.modelVersions"
TOKEN_TAG = HANDLE_TAG
# On a version: SQL stores do not keep the id of the logged model that it is given.
MODEL_TAG = "rosita.model_id"
"""By which versions are compared; the score of one fingerprint says nothing of another's."""
CHAMPION = "champion"
# What the served model imports; pandas comes with MLflow.
REQUIREMENTS = ("mlflow", "torch", "transformers")
GRAPH_REQUIREMENTS = ("mlflow", "onnxruntime", "tokenizers", "numpy")


@dataclass(frozen=True)
class Registration:
    """A model that shall be registered, in one store or another.

    Attributes:
        name: of the registered model.
        token: of this registration, in every store.
        artifact: its digest; a version that has it is used and no other one made.
    """

    name: str
    token: str
    artifact: str | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    description: str = ""


Save = Callable[[Path, LoggedModel], None]
"""Writes the files of a model into a folder."""


def register(
    client: MlflowClient,
    experiment: str,
    run_id: str,
    wanted: Registration,
    save: Save,
    scratch: Path,
) -> dict[str, str]:
    """Log and register a model of a run; returns name, version and address.

    Whatever of it exists already is used and not made again, so that it can be repeated.

    Args:
        experiment: the id of the run's experiment.
        save: see `saved_checkpoint`; called where the store does not have the files.
        scratch: a folder on a disk that has room for a copy.
    """
    own = _find_version(client, wanted.name, TOKEN_TAG, wanted.token)
    version = own
    if version is None and wanted.artifact is not None:
        version = _find_version(client, wanted.name, ARTIFACT_TAG, wanted.artifact)
    new = version is None
    if version is None:
        logged = _logged_model(client, experiment, run_id, wanted, save, scratch)
        version = own = _new_version(client, run_id, wanted, logged)
    if own is not None:
        # Also of one that was made before, after which nobody came so far.
        _choose_champion(client, wanted.name, own, new)
    number, model_id = str(version.version), version.tags[MODEL_TAG]
    # The UI shows the versions of a logged model by this tag.
    shown = json.dumps([{"name": wanted.name, "version": number}])
    client.set_logged_model_tags(model_id, {VERSIONS_TAG: shown})
    _relate(client, run_id, model_id)
    return {"name": wanted.name, "version": number, "uri": f"models:/{wanted.name}/{number}"}


def registration_of(client: MlflowClient, model_id: str) -> Registration:
    """The registration that made a logged model, to be repeated in another store."""
    logged = client.get_logged_model(model_id)
    [shown] = json.loads(logged.tags[VERSIONS_TAG])
    version = client.get_model_version(shown["name"], shown["version"])
    tags = {name: value for name, value in version.tags.items() if name != MODEL_TAG}
    return Registration(
        name=version.name,
        token=tags[TOKEN_TAG],
        artifact=tags.get(ARTIFACT_TAG),
        params=logged.params,
        tags=tags,
        description=version.description or "",
    )


def saved_copy(source: LoggedModel, run_id: str) -> Save:
    """Writes the files of a model of a store of this machine, as a model of another store."""

    def save(folder: Path, logged: LoggedModel) -> None:
        shutil.copytree(local_file_uri_to_path(source.artifact_location), folder)
        model = Model.load(str(folder))
        model.run_id, model.model_id = run_id, logged.model_id
        model.artifact_path = logged.artifact_location
        model.save(str(folder / "MLmodel"))

    return save


def saved_checkpoint(
    checkpoint: Path,
    run_id: str,
    reads_pairs: bool | None,
    regression: bool,
    example: Mapping[str, str] | None,
) -> Save:
    """Writes a checkpoint or a graph with the source that serves it.

    What it reads and says, with an example, becomes its signature.
    """

    def save(folder: Path, logged: LoggedModel) -> None:
        # Its files without the folders in it, which hold other formats of it.
        files = folder.with_name("checkpoint")
        files.mkdir()
        for path in checkpoint.iterdir():
            if path.is_file():
                _link(path, files / path.name)
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={"checkpoint": str(files)},
            signature=_signature(reads_pairs, regression),
            input_example=None if example is None else pd.DataFrame([example]),
            pip_requirements=_requirements((checkpoint / GRAPH).is_file()),
            mlflow_model=Model(
                artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id
            ),
        )
        # The code is copied with the mode that it has where it is installed.
        for path in folder.rglob("*"):
            make_private(path)

    return save


def _link(source: Path, target: Path) -> None:
    """Copy a file, without taking space where the filesystem can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


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
    wanted: Registration,
    save: Save,
    scratch: Path,
) -> LoggedModel:
    token = wanted.token
    found = client.search_logged_models([experiment], f"tags.`{TOKEN_TAG}` = '{token}'")
    logged = found[0] if found else None
    if logged is None:
        logged = client.create_logged_model(
            experiment,
            name=wanted.name,
            source_run_id=run_id,
            params=dict(wanted.params),
            tags=_tags(wanted),
            model_type="text-classification",
        )
    if str(logged.status) != "READY":
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=scratch) as place:
            folder = Path(place) / "model"
            save(folder, logged)
            client.log_model_artifacts(logged.model_id, str(folder))
        client.finalize_logged_model(logged.model_id, "READY")
    return logged


def _relate(client: MlflowClient, run_id: str, model_id: str) -> None:
    """Name a model as an output of a run; the store would note the same one twice."""
    outputs = client.get_run(run_id).outputs
    known = {one.model_id for one in outputs.model_outputs} if outputs is not None else set()
    if model_id not in known:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def _new_version(
    client: MlflowClient, run_id: str, wanted: Registration, logged: LoggedModel
) -> ModelVersion:
    try:
        client.create_registered_model(wanted.name, description=_described(wanted.name))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(
        wanted.name,
        # Not models:/<id>: the store would look that up in MLflow's global default store.
        source=logged.artifact_location,
        run_id=run_id,
        tags=_tags(wanted) | {MODEL_TAG: logged.model_id},
        model_id=logged.model_id,
        description=wanted.description or None,
    )


def _described(name: str) -> str:
    """What the versions of a registered model have in common."""
    problem = name.removeprefix("rosita-").removesuffix(GRAPH_SUFFIX)
    what = "Graphs of ONNX made of models" if name.endswith(GRAPH_SUFFIX) else "Models"
    return (
        f"{what} compressed for {problem}, a version for each that was registered. `{CHAMPION}` is "
        "the best of those that were scored on the same dev rows."
    )


def _choose_champion(client: MlflowClient, name: str, version: ModelVersion, new: bool) -> None:
    """The alias `champion` goes to a version that is better on the same dev rows, or the first.

    Of a `new` one on other rows it is said that nobody knows which is better.
    """
    try:
        champion = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        # A server that fails to answer has not said that there is none.
        if not is_refusal(error):
            raise
        client.set_registered_model_alias(name, CHAMPION, version.version)
        return
    theirs, ours = champion.tags, version.tags
    comparable = ours.get(FINGERPRINT_TAG) == theirs.get(FINGERPRINT_TAG) is not None
    if comparable and float(ours[SCORE_TAG]) > float(theirs[SCORE_TAG]):
        client.set_registered_model_alias(name, CHAMPION, version.version)
    if new and not comparable:
        warn(
            f"version {version.version} of {name} was scored on other dev rows than its "
            f"{CHAMPION}, version {champion.version}, and is not compared with it"
        )


def _tags(wanted: Registration) -> dict[str, str]:
    tags = dict(wanted.tags) | {TOKEN_TAG: wanted.token}
    if wanted.artifact is not None:
        tags[ARTIFACT_TAG] = wanted.artifact
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
