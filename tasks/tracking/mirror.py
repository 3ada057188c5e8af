"""The copy of runs of the home's own store at another MLflow, each once.

Whatever is sent may be sent again without harm: a store drops metrics and params that it has, and
what it would make twice is looked for first, by the id that it has here (`HANDLE_TAG`). So nothing
is noted here but the id of the copy, and at the end that it is whole, as tags of the run.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path

from tasks.home import Home
from tasks.host.one_machine import check_writer
from tasks.host.redaction import default_uri, redacted
from tasks.store.artifacts import write_json
from tasks.tracking.background import NotYet
from tasks.tracking.errors import brief
from tasks.tracking.experiments import Experiments
from tasks.tracking.models import VERSIONS_TAG, register, registration_of, saved_copy
from tasks.tracking.store import Value, client_of, log_values, metrics_after, refusal
from tasks.tracking.tags import (
    COMPUTED_BY_TAG,
    DOCUMENT_TAG,
    DONE,
    GRAPH_SUFFIX,
    HANDLE_TAG,
    MIRROR_REFUSED_TAG,
    MIRROR_RUN_TAG,
    MIRROR_STATE_TAG,
    MIRROR_TAG,
    OF_THIS_HOME,
    PARENT_TAG,
    REFUSED,
    WAITING,
)

# What a slow line carries; a model takes its time to send.
BYTES_PER_SECOND = 4e6
# A tag takes no more; the rest is in the log.
REASONS_LENGTH = 4000

logger = logging.getLogger(__name__)


@dataclass
class Copy:
    """How much of a run is at the server.

    Attributes:
        run_id: there.
        same: the server reads the home's own store, so that nothing has to be copied.
        row: of the last metric.
        values: params and tags.
        sent_files: path -> when it was changed.
        sent: data and models.
        registered: name, version and address of the model that is registered there.
        refused: what it did not accept, and why.
    """

    run_id: str
    same: bool = False
    row: int = 0
    values: dict[tuple[type[Param | RunTag], str], str] = field(default_factory=dict)
    sent_files: dict[str, int] = field(default_factory=dict)
    sent: set[str] = field(default_factory=set)
    registered: dict[str, str] | None = None
    refused: list[str] = field(default_factory=list)


class Mirror:
    """Copies runs of a home to the MLflow at `uri`. For one thread."""

    def __init__(self, home: Path, uri: str) -> None:
        self.uri = uri
        self.progress: Callable[[], None] = lambda: None
        """Called whenever the server has taken something."""
        self.copies: dict[str, Copy] = {}
        """Of the runs that were sent, by their ids here."""
        self._home = home
        self._experiments = Experiments(home, uri)
        self._names: dict[str, str] = {}
        self.allowance = 0.0
        """Seconds that what is being sent may take."""

    @property
    def _ours(self) -> MlflowClient:
        return client_of(default_uri(self._home))

    @property
    def _theirs(self) -> MlflowClient:
        return client_of(self.uri)

    def send(self, run: str) -> None:
        """Bring the copy of a run to what the run is now.

        What the server does not accept is noted, and the rest sent. Any other error is raised, and
        NotYet; then what is missing is sent the next time.
        """
        # Of a run that waits, another machine may write the file that it is for by now.
        check_writer(self.uri, "MLFLOW_TRACKING_URI must name one server")
        ours = self._ours.get_run(run)
        if ours.info.lifecycle_stage != "active":
            return
        experiment = ours.info.experiment_id
        if experiment not in self._names:
            self._names[experiment] = self._ours.get_experiment(experiment).name
        copy = self.copies.get(run)
        if copy is None:
            copy = self._begin(ours, self._names[experiment])
            self.copies[run] = copy
        if copy.same:
            if (document := self._complete(ours, copy)) is not None:
                self._ours.log_artifact(run, str(document))
        else:
            self._send_all(ours, copy)
        if ours.info.status != "RUNNING":
            self._note(ours, copy)

    def _begin(self, ours: Run, experiment: str) -> Copy:
        # Somebody may have deleted the experiment since.
        self._experiments.repair(self._theirs, experiment)
        run, tags = ours.info.run_id, ours.data.tags
        known = tags.get(MIRROR_RUN_TAG) if tags.get(MIRROR_TAG) == redacted(self.uri) else None
        if known is None:
            known = self._find(experiment, run)
        if known is None:
            wanted = {HANDLE_TAG: run}
            if (parent := self._parent(experiment, tags.get(PARENT_TAG))) is not None:
                wanted[PARENT_TAG] = parent
            place = self._experiments.id(self._theirs, experiment)
            made = self._theirs.create_run(place, ours.info.start_time, wanted, ours.info.run_name)
            known = str(made.info.run_id)
            self.progress()
        # The server of this very store has the run itself.
        if known != run:
            self._ours.set_tag(run, MIRROR_TAG, redacted(self.uri))
            self._ours.set_tag(run, MIRROR_RUN_TAG, known)
        return Copy(known, same=known == run)

    def _find(self, experiment: str, run: str) -> str | None:
        """The copy of a run, also of one of another home."""
        place = self._experiments.id(self._theirs, experiment)
        found = self._theirs.search_runs([place], f"tags.`{HANDLE_TAG}` = '{run}'")
        return str(found[0].info.run_id) if found else None

    def _counterpart(self, experiment: str, run: str) -> tuple[str | None, bool]:
        """The copy of another run, and whether one is still to come."""
        if (copy := self.copies.get(run)) is not None:
            return copy.run_id, False
        coming = False
        try:
            tags = self._ours.get_run(run).data.tags
            if tags.get(MIRROR_TAG) == redacted(self.uri):
                if MIRROR_RUN_TAG in tags:
                    return tags[MIRROR_RUN_TAG], False
                coming = tags.get(MIRROR_STATE_TAG) == WAITING
        except MlflowException as error:
            # A run of another home, or one known by its id at the server.
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        return self._find(experiment, run), coming

    def _parent(self, experiment: str, parent: str | None) -> str | None:
        if parent is None:
            return None
        found, coming = self._counterpart(experiment, parent)
        if found is None and coming:
            raise NotYet(parent)
        return found

    def _send_all(self, ours: Run, copy: Copy) -> None:
        self._send_values(ours, copy)
        for one in ours.inputs.dataset_inputs if ours.inputs else []:
            name = f"data {one.dataset.name} {one.dataset.digest}"
            if name not in copy.sent:
                self._ask(ours, copy, name, partial(self._theirs.log_inputs, copy.run_id, [one]))
                copy.sent.add(name)
        for model in ours.outputs.model_outputs if ours.outputs else []:
            name = f"model {model.model_id}"
            if name not in copy.sent:
                self._ask(ours, copy, name, partial(self._send_model, ours, copy, model.model_id))
                copy.sent.add(name)
        self._send_files(ours, copy)
        if ours.info.status != "RUNNING":
            self._ask(ours, copy, "its end", partial(self._end, ours, copy))

    def _ask(self, ours: Run, copy: Copy, what: str, act: Callable[[], object]) -> None:
        """Do something that the server may refuse."""
        if (error := refusal(act, partial(self._repaired, ours))) is not None:
            self._refuse(ours, copy, what, error)
        self.progress()

    def _repaired(self, ours: Run) -> bool:
        return self._experiments.repair(self._theirs, self._names[ours.info.experiment_id])

    def _refuse(self, ours: Run, copy: Copy, what: str, error: Exception) -> None:
        why = f"{what}: {brief(error)}"
        copy.refused.append(why)
        logger.warning(
            "MLflow at %s does not accept a request (%s of run %s)",
            redacted(self.uri),
            why,
            ours.info.run_name,
        )

    def _send_values(self, ours: Run, copy: Copy) -> None:
        experiment = self._names[ours.info.experiment_id]
        wanted: dict[tuple[type[Param | RunTag], str], str] = {
            (Param, name): value for name, value in ours.data.params.items()
        }
        for name, value in ours.data.tags.items():
            if name == COMPUTED_BY_TAG:
                value = self._counterpart(experiment, value)[0] or value
            if name not in OF_THIS_HOME | {PARENT_TAG}:
                wanted[RunTag, name] = value
        values: list[Value] = [
            kind(name, value)
            for (kind, name), value in wanted.items()
            if copy.values.get((kind, name)) != value
        ]
        while True:
            rows = metrics_after(self._home, ours.info.run_id, copy.row)
            values += [metric for _, metric in rows]
            refusals = log_values(
                self._theirs, copy.run_id, values, lambda: self._repaired(ours), self.progress
            )
            for what, why in refusals:
                self._refuse(ours, copy, what, why)
            copy.values |= wanted
            if not rows:
                return
            copy.row, values = rows[-1][0], []

    def _send_model(self, ours: Run, copy: Copy, model_id: str) -> None:
        wanted = registration_of(self._ours, model_id)
        logged = self._ours.get_logged_model(model_id)
        files = Path(local_file_uri_to_path(logged.artifact_location)).rglob("*")
        self.allowance = sum(path.stat().st_size for path in files) / BYTES_PER_SECOND
        try:
            registered = register(
                self._theirs,
                self._experiments.id(self._theirs, self._names[ours.info.experiment_id]),
                copy.run_id,
                wanted,
                saved_copy(logged, copy.run_id),
                Home(self._home).scratch,
            )
        finally:
            self.allowance = 0.0
        if not wanted.name.endswith(GRAPH_SUFFIX):
            copy.registered = registered

    def _send_files(self, ours: Run, copy: Copy) -> None:
        folder = Path(local_file_uri_to_path(ours.info.artifact_uri))
        document = self._complete(ours, copy)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            place = path.relative_to(folder)
            source = document if document is not None and place.name == document.name else path
            changed = source.stat().st_mtime_ns
            if copy.sent_files.get(str(place)) != changed:
                above = None if place.parent == Path() else place.parent.as_posix()
                send = partial(self._theirs.log_artifact, copy.run_id, str(source), above)
                self._ask(ours, copy, f"file {place}", send)
                copy.sent_files[str(place)] = changed

    def _complete(self, ours: Run, copy: Copy) -> Path | None:
        """Fill the ids of the server into the file that the home keeps of a run."""
        named = ours.data.tags.get(DOCUMENT_TAG)
        if named is None or not (path := self._home / named).is_file():
            return None
        if copy.same:
            copy.registered = registered_of(self._ours, ours)
        try:
            complete_document(path, copy.run_id, copy.registered)
        except ValueError:
            return None  # Somebody has damaged it.
        return path

    def _end(self, ours: Run, copy: Copy) -> None:
        # Requests to create it that were given up, and carried out all the same.
        place = self._experiments.id(self._theirs, self._names[ours.info.experiment_id])
        found = self._theirs.search_runs([place], f"tags.`{HANDLE_TAG}` = '{ours.info.run_id}'")
        for other in found:
            if other.info.run_id != copy.run_id:
                self._theirs.delete_run(other.info.run_id)
        self._theirs.set_terminated(copy.run_id, ours.info.status, ours.info.end_time)

    def _note(self, ours: Run, copy: Copy) -> None:
        run = ours.info.run_id
        if copy.refused:
            said = "\n".join(copy.refused)[:REASONS_LENGTH]
            self._ours.set_tag(run, MIRROR_REFUSED_TAG, said)
        elif MIRROR_REFUSED_TAG in ours.data.tags:
            self._ours.delete_tag(run, MIRROR_REFUSED_TAG)
        self._ours.set_tag(run, MIRROR_STATE_TAG, REFUSED if copy.refused else DONE)


def registered_of(client: MlflowClient, run: Run) -> dict[str, str] | None:
    """Name, version and address of the model that is registered for a run of the home's store."""
    for output in run.outputs.model_outputs if run.outputs else []:
        [shown] = json.loads(client.get_logged_model(output.model_id).tags[VERSIONS_TAG])
        if not shown["name"].endswith(GRAPH_SUFFIX):
            return {**shown, "uri": f"models:/{shown['name']}/{shown['version']}"}
    return None


def complete_document(path: Path, run_id: str, registered: Mapping[str, str] | None) -> None:
    """Fill in `mlflow_run_id` and `registered_model` of a JSON file, where they differ.

    The file keeps its times, which say when the run ended: the newest run is found by them.

    Raises FileNotFoundError when the file is gone, ValueError when it is no JSON.
    """
    times = path.stat()
    document = json.loads(path.read_text(encoding="utf-8"))
    filled = document | {"mlflow_run_id": run_id}
    if registered is not None:
        filled["registered_model"] = dict(registered)
    if filled != document:
        write_json(path, filled)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
