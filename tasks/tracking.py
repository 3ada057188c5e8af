"""MLflow: one experiment per task, one parent run per flow run, one child run per attempt.

Everything goes through the client, never through MLflow's active run: stages may run in several
threads of a process.
"""

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    InputTag,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException

from tasks.hardware import git_commit, hardware
from tasks.records import Context, StageResult
from tasks.stage_key import Stage, canonical_config, stage_key

# The store refuses more in one request, or cuts values longer than this.
METRICS_PER_BATCH = 1000
PARAMS_PER_BATCH = 100
PARAM_LENGTH = 6000
DATASET_DIGEST_LENGTH = 36

FLUSH_SECONDS = 2.0
FLUSH_METRICS = 100

PARENT_TAG = "mlflow.parentRunId"

T = TypeVar("T")


def tracking_uri(home: str | Path) -> str:
    """`MLFLOW_TRACKING_URI` if set, else a SQLite file in the home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(home).absolute()}/mlflow.db"


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted names -> text, as MLflow's params want them. Lists are JSON."""
    flat: dict[str, str] = {}
    for name, item in value.items():
        if isinstance(item, Mapping) and item:
            flat |= flatten(item, f"{prefix}{name}.")
        elif isinstance(item, str):
            flat[prefix + name] = item[:PARAM_LENGTH]
        else:
            flat[prefix + name] = json.dumps(item, default=str)[:PARAM_LENGTH]
    return flat


class Tracking:
    """The MLflow store of a home. The first use of a new store creates its tables (seconds)."""

    def __init__(self, home: str | Path) -> None:
        # Creating tables is not news for the user of a command line.
        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.home = Path(home).absolute()
        self.uri = tracking_uri(home)
        if self.uri.startswith("sqlite"):
            self.home.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def experiment_id(self, task: str) -> str:
        """The experiment `rosita-<task>`, created or brought back from deletion when needed."""
        name = f"rosita-{task}"
        found: Experiment | None = self.client.get_experiment_by_name(name)
        if found is None:
            # A server chooses its own place; local stores would choose the working directory.
            local = not self.uri.startswith(("http", "databricks"))
            place = (self.home / "mlartifacts" / name).as_uri() if local else None
            try:
                created: str = self.client.create_experiment(name, artifact_location=place)
                return created
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(name)
        assert found is not None
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def start_parent(
        self,
        task: str,
        recipe_name: str,
        recipe: Mapping[str, Any],
        seed: int | str,
        flow_run_id: str | None,
        shape: str | None,
        parent: str | None = None,
    ) -> str:
        """Open the run of a whole flow run and return its id.

        The recipe (JSON-able, nested) becomes the params, and the artifact `recipe.json`. A cell
        of a grid has the grid's run as its `parent`.
        """
        tags = _common_tags(recipe_name, seed, flow_run_id)
        if parent is not None:
            tags[PARENT_TAG] = parent
        if shape is not None:
            tags["rosita.shape"] = shape
        run = self.client.create_run(self.experiment_id(task), tags=tags, run_name=recipe_name)
        run_id = str(run.info.run_id)
        self.log_params(run_id, flatten(recipe))
        self.client.log_text(run_id, json.dumps(recipe, indent=2), "recipe.json")
        return run_id

    def start_child(
        self, stage: Stage, context: Context, key: str, attempt: int, cached: bool
    ) -> str:
        """Open the run of one attempt of a stage, below the parent run; return its id."""
        tags = _common_tags(context.recipe_name, context.seed, context.flow_run_id) | {
            PARENT_TAG: context.parent_run_id or "",
            "rosita.stage": stage.name,
            "rosita.stage_key": key,
            "rosita.attempt": str(attempt),
            "rosita.cached": "true" if cached else "false",
        }
        run = self.client.create_run(
            self.experiment_id(context.task), tags=tags, run_name=stage.name
        )
        run_id = str(run.info.run_id)
        self.log_params(run_id, flatten(canonical_config(stage.config)))
        return run_id

    def finish(
        self,
        run_id: str,
        status: str,
        metrics: Mapping[str, float | str],
        tags: Mapping[str, str],
    ) -> None:
        """Close a run with its summary. Status: FINISHED, FAILED or KILLED.

        Numbers become metrics; a text among the metrics becomes the tag `rosita.<name>`.
        """
        now = _now()
        numbers = [
            Metric(name, float(value), now, 0)
            for name, value in metrics.items()
            if not isinstance(value, str)
        ]
        texts = {f"rosita.{name}": text for name, text in metrics.items() if isinstance(text, str)}
        self.log_metrics(run_id, numbers)
        self.log_tags(run_id, texts | dict(tags))
        self.client.set_terminated(run_id, status=status)

    def record_cached(self, stage: Stage, result: StageResult, context: Context) -> str | None:
        """Write a complete child run for a stage whose result came from the cache; return its id.

        Without a parent run nothing is tracked, and the answer is None.
        """
        if context.parent_run_id is None:
            return None
        run_id = self.start_child(stage, context, stage_key(stage), result.attempt, cached=True)
        tags = {"rosita.artifact": result.artifact}
        if result.mlflow_run_id is not None:
            tags["rosita.computed_by"] = result.mlflow_run_id
        self.finish(run_id, "FINISHED", {"seconds": result.seconds} | result.metrics, tags)
        return run_id

    def log_dataset(
        self,
        run_id: str,
        name: str,
        fingerprint: str,
        source: str,
        profile: Mapping[str, Any],
    ) -> None:
        """Note the data that a run reads, by fingerprint. MLflow keeps its first 36 characters.

        `source` says where the data came from; `profile` holds sizes and the like (JSON-able).
        """
        dataset = Dataset(
            name=name,
            digest=fingerprint[:DATASET_DIGEST_LENGTH],
            source_type="rosita",
            source=json.dumps({"source": source, "fingerprint": fingerprint}),
            profile=json.dumps(dict(profile)),
        )
        tags = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(run_id, datasets=[DatasetInput(dataset, tags)])

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Log params, as many at a time as the store takes."""
        for part in _batched(params.items(), PARAMS_PER_BATCH):
            self.client.log_batch(run_id, params=[Param(name, value) for name, value in part])

    def log_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags, as many at a time as the store takes."""
        for part in _batched(tags.items(), PARAMS_PER_BATCH):
            self.client.log_batch(run_id, tags=[RunTag(name, value) for name, value in part])

    def log_metrics(self, run_id: str, metrics: Iterable[Metric]) -> None:
        """Log metrics, as many at a time as the store takes."""
        for part in _batched(metrics, METRICS_PER_BATCH):
            self.client.log_batch(run_id, metrics=list(part))


class MetricBuffer:
    """Step metrics of one run, sent every 2 seconds or 100 metrics: one request a step is slow."""

    def __init__(self, tracking: Tracking, run_id: str) -> None:
        self._tracking = tracking
        self._run_id = run_id
        self._waiting: list[Metric] = []
        self._sent_at = time.monotonic()

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of a step; they are sent now or with a later step."""
        now = _now()
        self._waiting += [Metric(name, float(value), now, step) for name, value in metrics.items()]
        old = time.monotonic() - self._sent_at >= FLUSH_SECONDS
        if old or len(self._waiting) >= FLUSH_METRICS:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        waiting, self._waiting = self._waiting, []
        self._tracking.log_metrics(self._run_id, waiting)
        self._sent_at = time.monotonic()


def _common_tags(recipe_name: str, seed: int | str, flow_run_id: str | None) -> dict[str, str]:
    tags = {"rosita.recipe": recipe_name, "rosita.seed": str(seed)}
    if flow_run_id is not None:
        tags["prefect.flow_run_id"] = flow_run_id
    if (commit := git_commit()) is not None:
        tags["git.commit"] = commit
    return tags | flatten(hardware(), "hardware.")


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while part := list(islice(remaining, size)):
        yield part


def _now() -> int:
    return int(time.time() * 1000)
