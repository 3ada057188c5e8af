"""Journals of the outbox as requests to MLflow, each of which may be repeated without harm.

The store drops metrics and params that it has already. What it would make twice is looked for
before it is made: a run by its tag `rosita.handle`, a model by its own (tasks/tracking/models.py).
"""

import json
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from tasks.home import Home
from tasks.host.redaction import is_remote, redacted
from tasks.store.artifacts import write_json
from tasks.tracking.experiments import Experiments
from tasks.tracking.models import register
from tasks.tracking.outbox.box import Outbox
from tasks.tracking.outbox.errors import HOPELESS, Unavailable, brief, code_of, is_refusal
from tasks.tracking.outbox.journal import ENDS, Entry, Journal, Operation
from tasks.tracking.outbox.refused import refuse

# The store takes no more in one request.
LIMITS = {"metrics": 1000, "params": 100, "tags": 100}
VALUES_PER_BATCH = 1000
OPERATIONS_PER_ROUND = 1000

HANDLE_TAG = "rosita.handle"
PARENT_TAG = "mlflow.parentRunId"
# A server that comes back first answers what it was asked before it stopped.
SETTLE_SECONDS = 1.0

logger = logging.getLogger(__name__)
# Two stores whose tables are made at the same time would share the state of the migration library.
_making_tables = threading.Lock()


class NotYet(RuntimeError):
    """The run waits for its parent run."""


class Delivery:
    """Sends journals of a home to the MLflow store at `uri`. For one thread."""

    def __init__(self, home: Path, uri: str, progress: Callable[[], None] = lambda: None) -> None:
        """`progress` is called whenever MLflow has taken something."""
        self.home = Path(home)
        self.uri = uri
        self.outbox = Outbox(home)
        self._progress = progress
        self._client: MlflowClient | None = None
        self._experiments = Experiments(self.home, uri)

    @property
    def client(self) -> MlflowClient:
        """The first use of a new local store creates its tables, which takes seconds."""
        if self._client is None:
            # Or it prints the address of every run, with the password in it.
            os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
            # Creating tables is not news for the user of a command line, and of an error whoever
            # sends says a line; MLflow would log its traceback for each request.
            logging.getLogger("alembic").setLevel(logging.WARNING)
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
            with _making_tables:
                self._client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        return self._client

    def send(self, journal: Journal) -> int:
        """Send everything that waits in a journal; returns the number of operations.

        Raises Unavailable when MLflow does not answer, NotYet when the parent run is not there yet;
        what was sent before that is noted.
        """
        sent = 0
        while entries := journal.unsent(OPERATIONS_PER_ROUND):
            together = 0
            while together < len(entries) and entries[together].operation["op"] in LIMITS:
                together += 1
            part = entries[: max(together, 1)]
            self._deal_with(journal, part)
            journal.advance(part)
            sent += len(part)
            self._progress()
        return sent

    def close_abandoned(self, journal: Journal) -> None:
        """Add the end that a killed process could not write to its journal."""
        if not journal.state.done and not any(
            entry.operation["op"] in ENDS for entry in journal.unsent(journal.left())
        ):
            when = int(journal.path.stat().st_mtime * 1000)
            journal.append({"op": "terminate", "status": "KILLED", "time": when})

    def _deal_with(self, journal: Journal, entries: list[Entry]) -> None:
        operations = [entry.operation for entry in entries]
        try:
            if operations[0]["op"] in LIMITS:
                for part in _batches(operations, LIMITS, VALUES_PER_BATCH):
                    self._log(journal, part)
            else:
                self._perform_again(journal, operations[0])
        except (Unavailable, NotYet):
            raise
        except Exception as error:
            if not is_refusal(error):
                raise Unavailable(error) from error
            for operation in operations:
                self._refuse(journal, operation, error)

    def _perform_again(self, journal: Journal, operation: Operation) -> None:
        """Carry out an operation; once more where its experiment has come back."""
        try:
            self._perform(journal, operation)
        except Exception as error:
            if not is_refusal(error) or not self._repaired(journal):
                raise
            self._perform(journal, operation)

    def _perform(self, journal: Journal, operation: Operation) -> None:
        kind = operation["op"]
        if kind == "create":
            self._create(journal, operation)
            return
        run_id = journal.state.run_id
        if run_id is None:
            raise ValueError(f"the run of {kind} must exist, got none: its creation was refused")
        if kind == "dataset":
            dataset = Dataset(**operation["dataset"])
            # Earlier versions wrote none down.
            context = operation.get("context", "training")
            tags = [InputTag("mlflow.data.context", context)]
            self.client.log_inputs(run_id, datasets=[DatasetInput(dataset, tags)])
        elif kind == "text":
            self.client.log_text(run_id, operation["text"], operation["path"])
        elif kind == "reference":
            found = self._find_run(operation["experiment"], operation["handle"])
            self.client.set_tag(run_id, operation["name"], found or operation["handle"])
        elif kind == "register":
            experiment = self._experiment_id(journal.header["experiment"])
            held, scratch = journal.held(""), Home(self.home).scratch
            registered = register(self.client, experiment, run_id, operation, held, scratch)
            if not operation.get("beside"):
                journal.state.registered = registered
        elif kind == "document":
            path = self.home / operation["path"]
            if not path.is_file():
                raise ValueError(f"path of document must be there, got {path}: it was removed")
            complete_document(path, run_id, journal.state.registered)
            self.client.log_artifact(run_id, str(path))
        elif kind == "resent":
            pass  # What was refused of a run that has ended.
        elif kind == "terminate":
            if journal.state.doubtful:
                self._delete_others(journal)
            self.client.set_terminated(run_id, operation["status"], operation["time"])
        else:
            raise ValueError(f"op must be one that this version knows, got {kind!r}")

    def _create(self, journal: Journal, operation: Operation) -> None:
        tags = dict(operation["tags"]) | {HANDLE_TAG: journal.handle}
        parent = operation.get("parent")
        if parent is not None:
            state = self.outbox.state(parent)
            if state is not None and state.run_id is None and not state.done:
                raise NotYet(parent)
            found = state.run_id if state is not None else None
            found = found or self._find_run(operation["experiment"], parent)
            if found is not None:
                tags[PARENT_TAG] = found
        experiment = self._experiment_id(operation["experiment"])
        state = journal.state
        if state.creating:
            state.doubtful = True
            state.run_id = self._find_run(operation["experiment"], journal.handle)
            if state.run_id is None and is_remote(self.uri):
                time.sleep(SETTLE_SECONDS)
                state.run_id = self._find_run(operation["experiment"], journal.handle)
        if state.run_id is None:
            state.creating = True
            journal.note()
            run = self.client.create_run(experiment, operation["time"], tags, operation["name"])
            state.run_id = str(run.info.run_id)

    def _delete_others(self, journal: Journal) -> None:
        """Remove the empty runs of requests that were given up and carried out all the same."""
        experiment = self._experiment_id(journal.header["experiment"])
        for run in self.client.search_runs([experiment], _has_handle(journal.handle)):
            if run.info.run_id != journal.state.run_id:
                self.client.delete_run(run.info.run_id)

    def _find_run(self, experiment: str, handle: str) -> str | None:
        state = self.outbox.state(handle)
        if state is not None and state.run_id is not None:
            return state.run_id
        found = self.client.search_runs([self._experiment_id(experiment)], _has_handle(handle))
        return str(found[0].info.run_id) if found else None

    def _experiment_id(self, name: str) -> str:
        return self._experiments.id(self.client, name)

    def _repaired(self, journal: Journal) -> bool:
        """Whether a refusal was about the experiment, which somebody deleted, and is no more."""
        name = journal.header.get("experiment")
        return name is not None and self._experiments.repair(self.client, name)

    def _log(self, journal: Journal, part: list[tuple[str, Any]]) -> None:
        """Log a batch; when it is refused, halve it until what MLflow refuses stands alone."""
        run_id = journal.state.run_id
        kinds: dict[str, list[Any]] = {"metrics": [], "params": [], "tags": []}
        for kind, (name, value, when, step) in part:
            if kind == "metrics":
                kinds[kind].append(Metric(name, value, when, step))
            else:
                kinds[kind].append((Param if kind == "params" else RunTag)(name, value))
        try:
            if run_id is None:
                raise ValueError("a run must exist to log to, got none: its creation was refused")
            self.client.log_batch(run_id, kinds["metrics"], kinds["params"], kinds["tags"])
            self._progress()
        except Exception as error:
            if not is_refusal(error):
                raise
            if run_id is not None and self._repaired(journal):
                self._log(journal, part)
                return
            if len(part) == 1 or run_id is None or code_of(error) in HOPELESS:
                self._refuse(journal, {"op": "batch", "values": part}, error)
                return
            middle = len(part) // 2
            self._log(journal, part[:middle])
            self._log(journal, part[middle:])

    def _refuse(self, journal: Journal, operation: Operation, error: Exception) -> None:
        why = brief(error)
        path = refuse(self.outbox, journal, operation, why)
        logger.warning(
            "MLflow does not accept a request (%s of run %s): %s; it is kept in %s",
            operation["op"],
            journal.state.run_id or journal.header.get("name"),
            why,
            path,
        )
        if not isinstance(error, MlflowException | requests.RequestException):
            logger.debug(redacted("".join(traceback.format_exception(error))))


def _has_handle(handle: str) -> str:
    return f"tags.`{HANDLE_TAG}` = '{handle}'"


def _batches(
    operations: list[Operation], limits: Mapping[str, int], total: int
) -> Iterator[list[tuple[str, Any]]]:
    """The params, tags and metrics of operations, as (kind, value), in parts of a legal size."""
    part: list[tuple[str, Any]] = []
    counts = dict.fromkeys(limits, 0)
    for operation in operations:
        kind = operation["op"]
        for value in operation["values"].items():
            if len(part) == total or counts[kind] == limits[kind]:
                yield part
                part, counts = [], dict.fromkeys(limits, 0)
            part.append((kind, (*value, operation.get("time"), operation.get("step"))))
            counts[kind] += 1
    if part:
        yield part


def complete_document(path: Path, run_id: str, registered: Mapping[str, str] | None) -> None:
    """Fill in `mlflow_run_id` and `registered_model` of a JSON file, where they differ.

    The file keeps its times, which say when the run ended: the newest run is found by them.

    Raises FileNotFoundError when the file is gone, ValueError when it is no JSON.
    """
    times = path.stat()
    document = json.loads(path.read_text(encoding="utf-8"))
    filled = document | {"mlflow_run_id": run_id}
    if registered is not None:
        filled["registered_model"] = {key: registered[key] for key in ("name", "version", "uri")}
    if filled != document:
        write_json(path, filled)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
