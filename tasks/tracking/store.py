"""Requests that any MLflow store takes, and what only the home's own can be asked."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE

from tasks.home import Home
from tasks.host.redaction import default_uri
from tasks.tracking.errors import HOPELESS, code_of, is_refusal

Value = Metric | Param | RunTag
Refusal = tuple[str, Exception]
"""What was refused, and why."""

# A store takes no more in one request.
LIMITS: Mapping[type, int] = {Metric: 1000, Param: 100, RunTag: 100}
AT_ONCE = 1000
# How long a reader waits for a writer.
BUSY_SECONDS = 20.0

_making = threading.Lock()


@lru_cache(maxsize=32)
def client_of(uri: str) -> MlflowClient:
    """The client of a store; the first one of a new local store makes its tables, in seconds."""
    # Or it prints the address of every run, with the password in it.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # Making tables is no news, and of an error a line is said; MLflow would log its traceback.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # Two that are made at the same time would share the state of the migration library.
    with _making:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@dataclass(frozen=True)
class NewRun:
    """A run that begins, under an id of our own: MLflow's client would choose one, and everybody
    who needs it had to wait for the store.

    Attributes:
        began: in milliseconds since 1970.
        tags: what it has from the beginning, and beside its values.
    """

    id: str
    name: str
    began: int
    tags: Mapping[str, str]


End = tuple[str, int]
"""How a run ended, and when, in milliseconds since 1970."""


def write_run(
    home: Path, experiment: str, run: NewRun, values: Sequence[Value], end: End | None
) -> bool:
    """Write a run that is new into the home's own store, with all there is of it, as one act.

    MLflow's client would do so in a dozen of transactions, which took most of the time of a run
    from the cache. False where the run is there already: nothing is written then.

    Args:
        experiment: the id of the experiment.
        values: as `accepted` has them.

    Raises MlflowException where the experiment was deleted.
    """
    from mlflow.store.tracking.dbmodels import models
    from mlflow.tracking._tracking_service.utils import _get_store
    from sqlalchemy import insert

    store = _get_store(default_uri(home))
    with store.ManagedSessionMaker(read_only=False) as session:
        if session.get(models.SqlRun, run.id) is not None:
            return False
        above = session.get(models.SqlExperiment, int(experiment))
        if above is None or above.lifecycle_stage != "active":
            raise MlflowException(f"experiment {experiment} was deleted", INVALID_STATE)
        status, ended = end or ("RUNNING", None)
        row = {
            "run_uuid": run.id,
            "name": run.name,
            "experiment_id": int(experiment),
            "artifact_uri": f"{above.artifact_location}/{run.id}/artifacts",
            "user_id": "unknown",
            "status": status,
            "start_time": run.began,
            "end_time": ended,
            "lifecycle_stage": "active",
            **dict.fromkeys(("source_name", "entry_point_name", "source_version"), ""),
            "source_type": "UNKNOWN",
        }
        texts = {"mlflow.runName": run.name, **run.tags}
        texts |= {one.key: one.value for one in values if isinstance(one, RunTag)}
        params = {one.key: one.value for one in values if isinstance(one, Param)}
        # A store keeps the same point once, and the last point of a curve a second time.
        points: dict[tuple[Any, ...], dict[str, Any]] = {}
        for one in values:
            if isinstance(one, Metric):
                is_nan, value = store.sanitize_metric_value(one.value)
                place = (one.step, one.timestamp, value, is_nan, one.key)
                names = ("step", "timestamp", "value", "is_nan", "key")
                points[place] = dict(zip(names, place, strict=True))
        latest = {points[place]["key"]: points[place] for place in sorted(points)}
        for table, rows in (
            (models.SqlRun, [row]),
            (models.SqlTag, [{"key": key, "value": text} for key, text in texts.items()]),
            (models.SqlParam, [{"key": key, "value": text} for key, text in params.items()]),
            (models.SqlMetric, list(points.values())),
            (models.SqlLatestMetric, list(latest.values())),
        ):
            if rows:
                session.execute(insert(table), [one | {"run_uuid": run.id} for one in rows])
    return True


def accepted(values: Sequence[Value]) -> list[Value] | None:
    """Values of a new run as any store keeps them, long texts cut; None where one is refused."""
    from mlflow.utils.validation import _validate_batch_log_data, _validate_param_keys_unique

    metrics = [one for one in values if isinstance(one, Metric)]
    params = [one for one in values if isinstance(one, Param)]
    tags = [one for one in values if isinstance(one, RunTag)]
    try:
        _validate_param_keys_unique(params)
        metrics, params, tags = _validate_batch_log_data(metrics, params, tags)
    except MlflowException:
        return None
    return [*metrics, *params, *tags]


def rows_of(home: Path, query: str, values: Sequence[Any] = ()) -> list[Any]:
    """Rows of the home's own store, read past MLflow; none where there is no store yet."""
    database = Home(home).mlflow_database
    if not database.is_file():
        return []
    # Not read-only: what a killed process was writing is rolled back first.
    address = f"{database.as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.Error as error:
        if "no such table" in str(error):
            return []
        raise OSError(f"{database} cannot be read: {error}") from error


def metrics_after(home: Path, run: str, row: int) -> list[tuple[int, Metric]]:
    """(row, metric) of a run in the order in which they were recorded, as many as a request takes.

    MLflow itself would read a whole curve again for each of its new points.
    """
    found = rows_of(
        home,
        "select rowid, key, value, timestamp, step, is_nan from metrics "
        "where run_uuid = ? and rowid > ? order by rowid limit ?",
        (run, row, AT_ONCE),
    )
    return [
        (number, Metric(key, float("nan") if is_nan else value, time, step))
        for number, key, value, time, step, is_nan in found
    ]


def refusal(act: Callable[[], object], repaired: Callable[[], bool]) -> Exception | None:
    """Do something that a store may refuse, and once more where that was about what is mended now.

    Returns why it was refused; any other error is raised.
    """
    for once_more in (True, False):
        try:
            act()
            break
        except Exception as error:
            if not is_refusal(error):
                raise
            if not (once_more and repaired()):
                return error
    return None


def log_values(
    client: MlflowClient,
    run: str,
    values: Sequence[Value],
    repaired: Callable[[], bool],
    progress: Callable[[], None] = lambda: None,
) -> list[Refusal]:
    """Log values, however many; those that the store does not accept come back, each alone.

    Args:
        repaired: asked after a refusal, whether it was about something that is mended now.
        progress: called after each request.
    """
    return [
        refusal
        for part in _parts(values)
        for refusal in _log(client, run, part, repaired, progress)
    ]


def _log(
    client: MlflowClient,
    run: str,
    part: Sequence[Value],
    repaired: Callable[[], bool],
    progress: Callable[[], None],
) -> list[Refusal]:
    metrics = [one for one in part if isinstance(one, Metric)]
    params = [one for one in part if isinstance(one, Param)]
    try:
        client.log_batch(run, metrics, params, [one for one in part if isinstance(one, RunTag)])
    except Exception as error:
        if not is_refusal(error):
            raise
        if repaired():
            return _log(client, run, part, repaired, progress)
        if len(part) == 1 or code_of(error) in HOPELESS:
            names = sorted({str(one.key) for one in part})
            return [(", ".join(names[:3]) + (", ..." if len(names) > 3 else ""), error)]
        middle = len(part) // 2
        halves = (part[:middle], part[middle:])
        return [one for half in halves for one in _log(client, run, half, repaired, progress)]
    progress()
    return []


def _parts(values: Sequence[Value]) -> Iterator[list[Value]]:
    """Values in parts of a legal size."""
    part: list[Value] = []
    counts = dict.fromkeys(LIMITS, 0)
    for value in values:
        if len(part) == AT_ONCE or counts[type(value)] == LIMITS[type(value)]:
            yield part
            part, counts = [], dict.fromkeys(LIMITS, 0)
        part.append(value)
        counts[type(value)] += 1
    if part:
        yield part
