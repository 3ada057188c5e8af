"""The experiments of MLflow by name: made when they are missing, brought back when deleted."""

import json
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from tasks.home import Home
from tasks.host.redaction import is_remote
from tasks.tracking.tags import NOTE_TAG, VIEW_TAG

PREFIX = "rosita-"
COLUMNS = ("metrics.`score`", "metrics.`retention`")


def described(name: str) -> dict[str, str]:
    """What a new experiment says of itself, and a view of its runs that begins with their scores.

    A view is what MLflow's pages keep of a table that somebody shares.
    """
    said = (
        f"Models compressed for {name.removeprefix(PREFIX)}: a run for each command and each cell "
        "of a grid, and below it one for each attempt of a stage. Scores are those of the same dev "
        "rows where the runs have the same data set."
    )
    return {NOTE_TAG: said, VIEW_TAG: json.dumps({"selectedColumns": COLUMNS})}


class Experiments:
    """The experiments of one store."""

    def __init__(self, home: Path, uri: str) -> None:
        self._home = home
        # A server chooses its own place; local stores would choose the working directory.
        self._local = not is_remote(uri)
        self._ids: dict[str, str] = {}

    def id(self, client: MlflowClient, name: str) -> str:
        """The id of an experiment that can be written to, as far as is known."""
        if name not in self._ids:
            self._ids[name] = self._find(client, name)[0]
        return self._ids[name]

    def repair(self, client: MlflowClient, name: str) -> bool:
        """Whether it was deleted or replaced since it was used last; now it can be written to.

        Deleting an experiment deletes the runs in it, and restoring it restores them.
        """
        known = self._ids.pop(name, None)
        self._ids[name], restored = self._find(client, name)
        return restored or known not in (None, self._ids[name])

    def _find(self, client: MlflowClient, name: str) -> tuple[str, bool]:
        """The id, and whether it had to be brought back."""
        found: Experiment | None = client.get_experiment_by_name(name)
        if found is None:
            place = (Home(self._home).mlflow_artifacts / name).as_uri() if self._local else None
            try:
                client.create_experiment(name, place, described(name))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = client.get_experiment_by_name(name)
        assert found is not None
        deleted = found.lifecycle_stage == "deleted"
        if deleted:
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id), deleted
