"""A compressed model as a logged model of MLflow, registered under its task."""

import importlib.metadata
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from tasks.tracking import Tracking, flatten

VERSIONS_TAG = "mlflow.modelVersions"
# What the served model imports; pandas comes with MLflow.
REQUIREMENTS = ("mlflow", "torch", "transformers")


@dataclass(frozen=True)
class RegisteredModel:
    """Where a compressed model stands in the registry."""

    name: str
    version: str
    model_id: str
    uri: str
    """What `mlflow.pyfunc.load_model` takes."""


def log_compressed_model(
    tracking: Tracking,
    run_id: str,
    task: str,
    checkpoint: Path,
    params: Mapping[str, object],
    tags: Mapping[str, str],
) -> RegisteredModel:
    """Log a Hugging Face checkpoint directory as the model of a run and register `rosita-<task>`.

    The checkpoint is copied as it is; the code that serves it is a source file, so nothing is
    pickled and nothing of this project is needed to load it.

    Raises ValueError when the directory holds no checkpoint.
    """
    if not (checkpoint / "config.json").is_file():
        raise ValueError(f"checkpoint must hold a config.json, got {checkpoint}")
    client = tracking.client
    name = f"rosita-{task}"
    logged = client.create_logged_model(
        tracking.experiment_id(task),
        name=name,
        source_run_id=run_id,
        params=flatten(params),
        tags=dict(tags),
        model_type="text-classification",
    )
    try:
        with tempfile.TemporaryDirectory(dir=_scratch(tracking)) as scratch:
            folder = Path(scratch) / "model"
            mlflow.pyfunc.save_model(
                folder,
                python_model=str(Path(__file__).with_name("served_model.py")),
                artifacts={"checkpoint": str(checkpoint)},
                signature=_signature(),
                input_example=pd.DataFrame({"text": ["a quiet, moving film"]}),
                pip_requirements=_requirements(),
                mlflow_model=Model(
                    artifact_path=logged.artifact_location,
                    run_id=run_id,
                    model_id=logged.model_id,
                ),
            )
            client.log_model_artifacts(logged.model_id, str(folder))
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
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
        tags=dict(tags),
        model_id=logged.model_id,
    )
    number = str(version.version)
    # The UI shows the versions of a logged model by this tag.
    client.set_logged_model_tags(
        logged.model_id, {VERSIONS_TAG: json.dumps([{"name": name, "version": number}])}
    )
    return RegisteredModel(name, number, str(logged.model_id), f"models:/{name}/{number}")


def _scratch(tracking: Tracking) -> Path:
    """A folder on the home's disk: the system's temporary folder may be memory."""
    folder = tracking.home / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _signature() -> ModelSignature:
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(DataType.string, "text"),
                ColSpec(DataType.string, "text_pair", required=False),
            ]
        )
    )


def _requirements() -> list[str]:
    versions = {name: importlib.metadata.version(name).split("+")[0] for name in REQUIREMENTS}
    return [f"{name}=={version}" for name, version in versions.items()]
