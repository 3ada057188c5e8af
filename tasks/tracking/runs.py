"""MLflow: one experiment per problem, one parent run per flow run, one child run per attempt.

This module decides what is recorded under which names. Nothing here waits for MLflow: everything
goes to the outbox, and a thread of it sends it on. A run is known by
its handle, which is made here; MLflow's own id of it comes later, or never.
"""

import json
import logging
import time
import uuid
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tasks.cache.records import Context, StageResult, attempts
from tasks.cache.stage_key import Stage, canonical_config
from tasks.host.hardware import git_commit, hardware
from tasks.host.redaction import default_uri, redacted, tracking_uri
from tasks.host.terminal import progress_display
from tasks.tracking.lost_history import lost_history
from tasks.tracking.outbox.sender import Sender, sender_of

__all__ = ["FLUSH_SECONDS", "ID_SECONDS", "Tracking", "flatten", "tracking_uri"]

# The store cuts or refuses values longer than this.
PARAM_LENGTH = 6000
DATASET_DIGEST_LENGTH = 36

# How long a flow run waits at its end, and a stage for the id of its run, while MLflow answers.
FLUSH_SECONDS = 15.0
ID_SECONDS = 10.0

logger = logging.getLogger(__name__)

DATABASES = ("sqlite", "mysql", "mssql", "postgresql")


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted names -> text, as MLflow's params want them.

    Lists are JSON, and so are mappings whose keys are no names of fields, which MLflow may refuse.
    """
    flat: dict[str, str] = {}
    for name, item in value.items():
        if isinstance(item, Mapping) and item and all(str(key).isidentifier() for key in item):
            flat |= flatten(item, f"{prefix}{name}.")
        elif isinstance(item, str):
            flat[prefix + name] = item[:PARAM_LENGTH]
        else:
            flat[prefix + name] = json.dumps(item, default=str)[:PARAM_LENGTH]
    return flat


class Tracking:
    """The tracked runs of a home. Making one touches neither the network nor the disk."""

    def __init__(self, home: str | Path) -> None:
        """Raises MLflow's own error where it knows no store of the kind that the URI names.

        Where its text would hold a password, it is a ValueError instead.
        """
        self.home = Path(home).absolute()
        self.uri = tracking_uri(home)
        if not self.uri.startswith(DATABASES):
            # Connects to nothing yet, but a mistyped URI should stop the run and not wait in it.
            try:
                MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            except MlflowException as error:
                if (said := redacted(str(error))) == str(error):
                    raise
                raise ValueError(f"MLFLOW_TRACKING_URI must be known to MLflow: {said}") from None
        self._sender: Sender = sender_of(self.home, self.uri, _tell)

    def start_parent(
        self,
        task: str,
        recipe_name: str,
        recipe: Mapping[str, Any],
        seed: int | str,
        flow_run_id: str | None,
        shape: str | None,
        parent: str | None = None,
        name: str | None = None,
    ) -> str:
        """Open the run of a whole flow run and return its handle.

        The recipe (JSON-able, nested) becomes the params, and the artifact `recipe.json`. A cell
        of a grid has the handle of the grid's run as its `parent`, and a short `name`.
        """
        tags = _common_tags(recipe_name, seed, flow_run_id)
        if shape is not None:
            tags["rosita.shape"] = shape
        run = self._start(task, name or recipe_name, tags, parent)
        self.log_params(run, flatten(recipe))
        self.log_text(run, "recipe.json", json.dumps(recipe, indent=2))
        return run

    def start_child(
        self, stage: Stage, context: Context, key: str, attempt: int, cached: bool
    ) -> str:
        """Open the run of one attempt of a stage, below the parent run; return its handle."""
        tags = _common_tags(context.recipe_name, context.seed, context.flow_run_id) | {
            "rosita.stage": stage.name,
            "rosita.stage_key": key,
            "rosita.attempt": str(attempt),
            "rosita.cached": "true" if cached else "false",
        }
        if context.cell is not None:
            # Not the cell's own tag, so that a search for that finds the cells alone.
            tags["rosita.of_cell"] = context.cell
        run = self._start(context.task, context.title(stage.name), tags, context.parent_run)
        self.log_params(run, flatten(canonical_config(stage.config)))
        return run

    def finish(
        self,
        run: str,
        status: str,
        metrics: Mapping[str, float | str],
        tags: Mapping[str, str],
    ) -> None:
        """Close a run with its summary. Status: FINISHED, FAILED or KILLED.

        Numbers become metrics; a text among the metrics becomes the tag `rosita.<name>`. A run that
        is closed already stays as it is: Ctrl-C may come between the end of a run and its flush.
        """
        if self._sender.runs.ended(run):
            return
        numbers = {k: float(value) for k, value in metrics.items() if not isinstance(value, str)}
        texts = {f"rosita.{name}": text for name, text in metrics.items() if isinstance(text, str)}
        self.log_metrics(run, 0, numbers)
        self.log_tags(run, texts | dict(tags))
        header = self._sender.runs.header(run)
        parent = None if header is None else header["parent"]
        operation = {"op": "terminate", "status": status, "time": _now()}
        self._sender.append(run, operation, urgent=True)
        # Where the flow runs in another process, this one may end with the stage.
        if parent is not None and not self._sender.runs.has(parent):
            self.flush(FLUSH_SECONDS)

    def record_cached(self, stage: Stage, result: StageResult, context: Context) -> str | None:
        """Write a complete child run for a stage whose result came from the cache; its handle.

        Without a parent run nothing is tracked, and the answer is None.
        """
        if context.parent_run is None:
            return None
        run = self.start_child(stage, context, stage.key, result.attempt, cached=True)
        tags = {"rosita.artifact": result.artifact}
        if result.mlflow_run_id is not None:
            tags["rosita.computed_by"] = result.mlflow_run_id
        elif (computed_by := _handle_of(context.home, result)) is not None:
            # Becomes the id of the run with that handle, if MLflow has heard of it by then.
            operation = {
                "op": "reference",
                "name": "rosita.computed_by",
                "experiment": _experiment(context.task),
                "handle": computed_by,
            }
            self._sender.append(run, operation, urgent=False)
        self.finish(run, "FINISHED", {"seconds": result.seconds} | result.metrics, tags)
        return run

    def log_dataset(
        self,
        run: str,
        name: str,
        fingerprint: str,
        source: str,
        profile: Mapping[str, Any],
        context: str = "training",
    ) -> None:
        """Note the data that a run reads, by fingerprint. MLflow keeps its first 36 characters.

        `source` says where the data came from; `profile` holds sizes and the like (JSON-able);
        `context` what the run does with it.
        """
        dataset = {
            "name": name,
            "digest": fingerprint[:DATASET_DIGEST_LENGTH],
            "source_type": "rosita",
            "source": json.dumps({"source": source, "fingerprint": fingerprint}),
            "profile": json.dumps(dict(profile)),
        }
        operation = {"op": "dataset", "dataset": dataset, "context": context}
        self._sender.append(run, operation, urgent=False)

    def log_model(
        self,
        run: str,
        name: str,
        checkpoint: Path,
        artifact: str | None,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        description: str = "",
        reads_pairs: bool | None = None,
        regression: bool = False,
        example: Mapping[str, str] | None = None,
        beside: bool = False,
    ) -> None:
        """Register a checkpoint or a graph as a model of a run (see tasks/tracking/models.py).

        One `beside` another is no answer of `registered`. What it reads and says, with an example,
        becomes its signature.
        """
        files = self._sender.runs.hold_files(run, checkpoint)
        if files is None:
            return
        operation = {
            "op": "register",
            "token": uuid.uuid4().hex,
            "name": name,
            "artifact": artifact,
            "files": files,
            "params": flatten(params),
            "tags": dict(tags),
            "description": description,
            "reads_pairs": reads_pairs,
            "regression": regression,
            "example": None if example is None else dict(example),
            "beside": beside,
        }
        self._sender.append(run, operation, urgent=True)

    def log_document(self, run: str, path: Path) -> None:
        """Attach a JSON file of the home to a run.

        Before that its `mlflow_run_id` and `registered_model` are filled in, whenever that is.
        """
        place = path.absolute().relative_to(self.home).as_posix()
        self._sender.append(run, {"op": "document", "path": place}, urgent=True)

    def log_text(self, run: str, path: str, text: str) -> None:
        """Attach a text to a run, as a file."""
        self._sender.append(run, {"op": "text", "path": path, "text": text}, urgent=False)

    def log_params(self, run: str, params: Mapping[str, str]) -> None:
        """Log params, however many."""
        self._values(run, "params", params)

    def log_tags(self, run: str, tags: Mapping[str, str]) -> None:
        """Set tags, however many."""
        self._values(run, "tags", tags)

    def log_metrics(
        self, run: str, step: int, metrics: Mapping[str, float], time: int | None = None
    ) -> None:
        """Log metrics at a step, however many; `time` is in milliseconds since 1970, else now."""
        numbers = {name: float(value) for name, value in metrics.items()}
        self._values(run, "metrics", numbers, time=_now() if time is None else time, step=step)

    def run_id(self, run: str, wait: float = 0.0) -> str | None:
        """MLflow's id of a run; None when it is not known within `wait` seconds.

        A MLflow that is known not to answer, or that is slow, is not waited for.
        """
        return self._sender.run_id(run, wait)

    def registered(self, run: str) -> dict[str, str] | None:
        """Name, version and uri of the model that was registered for a run, once it was."""
        found = self._sender.state(run).registered
        return None if found is None else {key: found[key] for key in ("name", "version", "uri")}

    def flush(self, seconds: float) -> bool:
        """Send what waits; False when MLflow took nothing for so long, or one second when down."""
        return self._sender.flush(seconds)

    def _start(self, task: str, name: str, tags: Mapping[str, str], parent: str | None) -> str:
        handle = uuid.uuid4().hex
        if self.uri == default_uri(self.home):
            # Before MLflow opens its store, and makes a new one where there is none.
            _say_if_lost(self.home)
        self._sender.start(
            {
                "op": "create",
                "handle": handle,
                "uri": None if self.uri == default_uri(self.home) else redacted(self.uri),
                "experiment": _experiment(task),
                "parent": parent,
                "name": name,
                "tags": dict(tags),
                "time": _now(),
            }
        )
        return handle

    def _values(self, run: str, kind: str, values: Mapping[str, Any], **more: Any) -> None:
        if values:
            self._sender.append(run, {"op": kind, "values": dict(values), **more}, urgent=False)


def _handle_of(home: str, result: StageResult) -> str | None:
    """The handle of the attempt that computed a result, from the attempt's record."""
    for record in attempts(home, result.stage):
        if record["number"] == result.attempt and record.get("key") == result.key:
            handle = record.get("tracked_as")
            return None if handle is None else str(handle)
    return None


@lru_cache(maxsize=16)
def _say_if_lost(home: Path) -> None:
    """Once in a process."""
    if (lost := lost_history(home)) is not None:
        logger.warning("%s", lost)
        _tell(lost)


def _tell(text: str) -> None:
    # Prefect keeps warnings of other libraries from the terminal.
    if logging.getLogger().handlers:
        progress_display().line(f"rosita: {text}")


def _experiment(problem: str) -> str:
    return f"rosita-{problem}"


def _common_tags(recipe_name: str, seed: int | str, flow_run_id: str | None) -> dict[str, str]:
    tags = {"rosita.recipe": recipe_name, "rosita.seed": str(seed)}
    if flow_run_id is not None:
        tags["prefect.flow_run_id"] = flow_run_id
    if (commit := git_commit()) is not None:
        tags["git.commit"] = commit
    return tags | flatten(hardware(), "hardware.")


def _now() -> int:
    return int(time.time() * 1000)
