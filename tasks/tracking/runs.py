"""MLflow: one experiment per problem, one parent run per flow run, one child run per attempt.

This module decides what is recorded under which names. Nothing here waits for MLflow: a thread
writes everything into the home's own store (recorder.py), and where `MLFLOW_TRACKING_URI` names
another server, a second one copies it there (process.py). A run is known by its id in the home's
own store, which is made here; that of its copy comes later, or never.
"""

import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from tasks.cache.metric_history import made_here
from tasks.cache.records import Context, StageResult, attempts
from tasks.cache.stage_key import Stage, canonical_config
from tasks.home import Home
from tasks.host.hardware import git_commit, hardware
from tasks.host.one_machine import check_writer
from tasks.host.redaction import bare, default_uri, is_own, redacted, tracking_uri
from tasks.tracking import tags as known
from tasks.tracking.abandoned import journal
from tasks.tracking.errors import brief, is_local
from tasks.tracking.lost_history import lost_history
from tasks.tracking.mirror import complete_document
from tasks.tracking.models import Registration, register, saved_checkpoint
from tasks.tracking.process import recording_of, say
from tasks.tracking.recorder import Entry
from tasks.tracking.store import Value, client_of

__all__ = ["FLUSH_SECONDS", "ID_SECONDS", "Tracking", "flatten", "tracking_uri"]

# The store cuts or refuses values longer than this.
PARAM_LENGTH = 6000
DATASET_DIGEST_LENGTH = 36

# How long a flow run waits at its end, and a stage for the id of its run, while MLflow answers.
FLUSH_SECONDS = 15.0
ID_SECONDS = 10.0

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
    """The tracked runs of a home. Making one touches no network, and no disk but for a lock."""

    def __init__(self, home: str | Path) -> None:
        """Raises ValueError where MLflow knows no store of the kind that the URI names.

        So it does where another machine records in this home and no server is told of both
        (abandoned.py), and where it writes the SQLite file that the URI names.
        """
        self.home = journal(Path(home).absolute())
        self.uri = tracking_uri(home)
        if not is_own(home, self.uri):
            check_writer(self.uri, "MLFLOW_TRACKING_URI must name one server")
        if not self.uri.startswith(DATABASES):
            # Connects to nothing yet, but a mistyped URI should stop the run and not wait in it.
            try:
                MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            except MlflowException as error:
                shown = bare(self.uri)
                why = redacted(" ".join(str(error).replace(self.uri, shown).split()))
                raise ValueError(
                    f"MLFLOW_TRACKING_URI must name a store that MLflow knows, got {shown}: {why}"
                ) from None
        self._recording = recording_of(os.getpid(), self.home, self.uri)

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
        """Open the run of a whole flow run and return its id in the home's own store.

        The recipe (JSON-able, nested) becomes the params, and the artifact `recipe.json`. A cell
        of a grid has that of the grid's run as its `parent`, and a short `name`.
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
        """Open the run of one attempt of a stage, below the parent run; return its id."""
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
        recording = self._recording
        if run in recording.ended:
            return
        recording.ended.add(run)
        numbers = {k: float(value) for k, value in metrics.items() if not isinstance(value, str)}
        texts = {f"rosita.{name}": text for name, text in metrics.items() if isinstance(text, str)}
        self.log_metrics(run, 0, numbers)
        self.log_tags(run, texts | dict(tags))
        recording.recorder.put(run, Entry(ended=(status, _now())))
        # Where the flow runs in another process, this one may end with the stage.
        parent = recording.parents.get(run)
        if parent is not None and not recording.recorder.has(parent):
            self.flush(FLUSH_SECONDS)

    def record_cached(self, stage: Stage, result: StageResult, context: Context) -> str | None:
        """Write a complete child run for a stage whose result came from the cache; its id.

        Without a parent run nothing is tracked, and the answer is None.
        """
        if context.parent_run is None:
            return None
        run = self.start_child(stage, context, stage.key, result.attempt, cached=True)
        tags = {"rosita.artifact": result.artifact}
        # The mirror translates an id of this store.
        computed_by = result.mlflow_run_id or _recorded_as(context.home, result)
        if computed_by is not None:
            tags[known.COMPUTED_BY_TAG] = computed_by
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
        dataset = Dataset(
            name=name,
            digest=fingerprint[:DATASET_DIGEST_LENGTH],
            source_type="rosita",
            source=json.dumps({"source": source, "fingerprint": fingerprint}),
            profile=json.dumps(dict(profile)),
        )
        given = DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
        self._act(run, f"data {name}", lambda: self._client().log_inputs(run, datasets=[given]))

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
    ) -> None:
        """Register a checkpoint or a graph as a model of a run (see tasks/tracking/models.py).

        What it reads and says, with an example, becomes its signature.
        """
        wanted = Registration(
            name, uuid.uuid4().hex, artifact, flatten(params), dict(tags), description
        )
        save = saved_checkpoint(checkpoint, run, reads_pairs, regression, example)
        scratch, recorder = Home(self.home).scratch, self._recording.recorder

        def act() -> None:
            place = recorder.experiment(run)
            try:
                made = register(self._client(), place, run, wanted, save, scratch)
            except OSError as error:
                if not is_local(error):
                    raise
                # What else there is of the run does not wait for its files.
                lost = "the run goes on, and the model will not be in MLflow"
                say(f"the model's files cannot be written ({brief(error)}); {lost}")
                return
            if not name.endswith(known.GRAPH_SUFFIX):
                self._recording.registered[run] = made

        self._act(run, f"model {name}", act)

    def log_document(self, run: str, path: Path) -> None:
        """Attach a JSON file of the home to a run.

        Before that its `mlflow_run_id` and `registered_model` are filled in, whenever that is.
        """
        place = os.path.relpath(path.absolute(), self.home)

        def act() -> None:
            if not path.is_file():
                raise ValueError(f"the file must be there, got {path}: it was removed")
            if self._recording.mirror is None:
                complete_document(path, run, self._recording.registered.get(run))
            self._client().log_artifact(run, str(path))
            self._client().set_tag(run, known.DOCUMENT_TAG, place)

        self._act(run, path.name, act)

    def log_text(self, run: str, path: str, text: str) -> None:
        """Attach a text to a run, as a file."""
        self._act(run, path, lambda: self._client().log_text(run, text, path))

    def log_params(self, run: str, params: Mapping[str, str]) -> None:
        """Log params, however many."""
        self._values(run, [Param(name, value) for name, value in params.items()])

    def log_tags(self, run: str, tags: Mapping[str, str]) -> None:
        """Set tags, however many."""
        self._values(run, [RunTag(name, value) for name, value in tags.items()])

    def log_metrics(
        self, run: str, step: int, metrics: Mapping[str, float], time: int | None = None
    ) -> None:
        """Log metrics at a step, however many; `time` is in milliseconds since 1970, else now."""
        when = _now() if time is None else time
        self._values(run, [Metric(name, float(v), when, step) for name, v in metrics.items()])

    def run_id(self, run: str, wait: float = 0.0) -> str | None:
        """A run's id at the MLflow of this process; None when it has none within `wait` seconds.

        A server that is known not to answer, or that is slow, is not waited for.
        """
        recording, mirror = self._recording, self._recording.mirror
        if mirror is None:
            return None if recording.recorder.thread.failing else run
        if wait > 0:
            recording.recorder.thread.hurry()
        recording.copying.wait(lambda: run in mirror.copies, wait)
        return mirror.copies[run].run_id if run in mirror.copies else None

    def registered(self, run: str) -> dict[str, str] | None:
        """Name, version and address of the model that was registered for a run, once it was."""
        if (mirror := self._recording.mirror) is not None:
            return mirror.copies[run].registered if run in mirror.copies else None
        return self._recording.registered.get(run)

    def flush(self, seconds: float) -> bool:
        """Write, and copy, what waits; False when MLflow took nothing for so long, or is down."""
        return self._recording.flush(seconds)

    def _start(self, task: str, name: str, tags: Mapping[str, str], parent: str | None) -> str:
        run = uuid.uuid4().hex
        # Before MLflow opens its store, and makes a new one where there is none.
        _say_if_lost(self.home)
        named = {**tags, known.HANDLE_TAG: run}
        if parent is not None:
            named[known.PARENT_TAG] = parent
        if self._recording.mirror is not None:
            named |= {known.MIRROR_TAG: redacted(self.uri), known.MIRROR_STATE_TAG: known.WAITING}
        self._recording.start(run, parent, f"rosita-{task}", name, named)
        return run

    def _client(self) -> MlflowClient:
        return client_of(default_uri(self.home))

    def _values(self, run: str, values: list[Value]) -> None:
        if values:
            self._recording.recorder.put(run, Entry(values=tuple(values)))

    def _act(self, run: str, name: str, act: Callable[[], object]) -> None:
        self._recording.recorder.put(run, Entry(act=act, name=name))


def _recorded_as(home: str, result: StageResult) -> str | None:
    """The run of the attempt that computed a result, from the attempt's record."""
    if not made_here(home, result.stage, result.attempt, result.key):
        return None
    [made] = (r for r in attempts(home, result.stage) if r["number"] == result.attempt)
    run = made.get("tracked_as")
    return None if run is None else str(run)


@lru_cache(maxsize=16)
def _say_if_lost(home: Path) -> None:
    """Once in a process."""
    if (lost := lost_history(home)) is not None:
        say(lost)


def _common_tags(recipe_name: str, seed: int | str, flow_run_id: str | None) -> dict[str, str]:
    tags = {"rosita.recipe": recipe_name, "rosita.seed": str(seed)}
    if flow_run_id is not None:
        tags["prefect.flow_run_id"] = flow_run_id
    if (commit := git_commit()) is not None:
        tags["git.commit"] = commit
    return tags | flatten(hardware(), "hardware.")


def _now() -> int:
    return int(time.time() * 1000)
