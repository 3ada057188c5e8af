"""What a finished stage leaves behind, and how it is found again without a Prefect server.

Prefect writes the result of a stage to `<home>/results/<stage key>` as one JSON document, whose
`result` is the JSON text of a `StageResult`.
"""

import json
import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.home import Home
from tasks.store.artifacts import Store, is_digest
from tasks.store.durable import to_disk as path_to_disk

# What every record of an attempt says; see `tasks.execution.attempt.Attempt`.
OF_AN_ATTEMPT = frozenset(
    ("stage", "key", "components", "recipe", "flow_run_id", "status", "started", "finished")
)

logger = logging.getLogger(__name__)


class StageResult(BaseModel):
    """What a stage returns: where its artifact is and what was measured. Holds no path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    key: str
    """The stage key that it was computed for."""
    artifact: str
    """The digest of its artifact."""
    metrics: dict[str, float | str]
    seconds: float
    attempt: int
    mlflow_run_id: str | None
    """The run of the attempt that computed it; None when MLflow had not answered by then."""
    finished_at: str
    """ISO 8601, UTC."""


class Context(BaseModel):
    """Where and for whom a stage runs; nothing here may change its result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: str
    parent_run: str | None
    """The handle of the tracked run of the whole flow run; without it nothing is tracked."""
    recipe_name: str
    task: str
    seed: int
    flow_run_id: str | None
    cell: str | None
    """`<grid>/<cell>` of the cell of a grid that the run is of; None for any other run."""
    total_stages: int
    position: int
    """Of the stage among `total_stages`, from 1."""
    device: str
    precision: str
    threads: int
    all_cores: bool
    """Whether threads are the cores of the machine: processes that share one share them."""
    alone: bool
    """Whether it has its machine for itself, since it measures time."""
    checkpoint_seconds: float
    """How often an unfinished stage is saved."""
    checkpoint_steps: int | None
    """The same in steps, where they come sooner; None for by time alone."""
    begin_anew: bool
    """Whether a checkpoint that lies there is dropped: a stage that is run again on purpose."""

    def title(self, stage: str) -> str:
        """What a stage is called on pages and terminals: in a grid with the cell's short name."""
        return stage if self.cell is None else f"{self.cell.rpartition('/')[2]}/{stage}"


def results_folder(home: str | Path) -> Path:
    """Where the records of finished stages lie."""
    return Home(home).results


def find_record(home: str | Path, key: str) -> StageResult | None:
    """The verified result of a stage key, or None. Reads only: nothing is moved or removed."""
    record, _ = inspect_record(home, key)
    return record


def inspect_record(home: str | Path, key: str) -> tuple[StageResult | None, str | None]:
    """The verified result of a stage key, and what is wrong with it when there is one to distrust.

    (result, None) is a hit, (None, None) a stage that was never completed, (None, problem) a record
    that cannot be read or whose artifact is missing or damaged.
    """
    record, problem = read_record(home, key)
    if record is None:
        return None, problem
    problem = Store(Path(home)).verify(record.artifact)
    if problem is not None:
        return None, f"artifact {record.artifact[:12]}: {problem}"
    return record, None


def read_record(home: str | Path, key: str) -> tuple[StageResult | None, str | None]:
    """As `inspect_record`, but quick: the artifact is not looked at."""
    try:
        text = (results_folder(home) / key).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None, None
    except UnicodeDecodeError:
        return None, "its record is not readable JSON"
    return parse_record(text, key)


def parse_record(text: str, key: str) -> tuple[StageResult | None, str | None]:
    """The result of a stage key in the text of its record, and what is wrong with that."""
    try:
        record = StageResult.model_validate(_unwrap(json.loads(json.loads(text)["result"])))
    except ValidationError:
        return None, "its record is not the result of a stage"
    except (ValueError, KeyError, TypeError):
        return None, "its record is not readable JSON"
    if record.key != key:
        return None, f"its record belongs to the key {record.key[:12]}"
    return record, None


def record_names(path: Path) -> tuple[str, str] | None:
    """The stage and the artifact that a record names, unverified; None where it cannot be read."""
    try:
        result = _unwrap(json.loads(json.loads(path.read_text(encoding="utf-8"))["result"]))
        return str(result["stage"]), str(result["artifact"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _unwrap(result: Any) -> Any:
    """Prefect's JSON serializer notes the class beside the data."""
    return result["data"] if isinstance(result, dict) and "__class__" in result else result


def touch_record(home: str | Path, key: str) -> None:
    """Note that a record was used now; what nobody uses for long is freed."""
    try:
        os.utime(results_folder(home) / key)
    except OSError as error:
        # Another user's record in a shared home: the hit is as good.
        logger.warning("the use of record %s could not be noted: %s", key[:12], error.strerror)


def to_disk(home: str | Path, key: str) -> None:
    """Wait until a record would survive a loss of power, before what it replaces is dropped.

    Raises FileNotFoundError when there is no such record.
    """
    path_to_disk(results_folder(home) / key)
    path_to_disk(results_folder(home))


def discard_record(home: str | Path, key: str) -> None:
    """Take a record that cannot be trusted out of use, and set its artifact aside.

    The record moves to `<home>/results/damaged/`, so that nothing is lost.
    """
    path = results_folder(home) / key
    folder = Home(home).damaged_results
    folder.mkdir(parents=True, exist_ok=True)
    names = record_names(path)
    if names is None or not is_digest(names[1]):
        logger.debug("record %s names no artifact", key)
    elif (store := Store(Path(home))).verify(names[1]) is not None:
        store.set_aside(names[1])
    number = 1
    while (folder / f"{key}-{number}").exists():
        number += 1
    try:
        path.rename(folder / f"{key}-{number}")
    except FileNotFoundError:
        logger.debug("record %s was already moved", key)


def attempts_folder(home: str | Path, stage_name: str) -> Path:
    """Where the records of a stage's attempts lie."""
    return Home(home).attempts_of(stage_name)


def attempt_path(home: str | Path, stage_name: str, number: int) -> Path:
    """The record of one attempt."""
    return attempts_folder(home, stage_name) / f"{number:06d}.json"


def attempts(home: str | Path, stage_name: str) -> list[dict[str, Any]]:
    """The records of a stage's attempts in this home, oldest first, each with its `number`.

    An attempt whose process was killed says `running` for ever; `tasks.host.liveness.attempt_state`
    knows better. Half-written claims are left out, and so is, with a warning, a record that cannot
    be read: it is a note of the past, and the other attempts are as good without it.
    """
    records = []
    for path in _attempt_paths(home, stage_name):
        record, problem = _read_attempt(path)
        if problem is not None:
            _warn_once(path, problem)
        elif record is not None:
            records.append({"number": int(path.stem), **record})
    return records


def unreadable_attempts(home: str | Path) -> list[Path]:
    """The records of all stages' attempts that cannot be read."""
    folders = sorted(Home(home).attempts.glob("*"))
    paths = [path for folder in folders for path in _attempt_paths(home, folder.name)]
    return [path for path in paths if _read_attempt(path)[1] is not None]


def _attempt_paths(home: str | Path, stage_name: str) -> list[Path]:
    return sorted(attempts_folder(home, stage_name).glob("[0-9]*.json"))


def _read_attempt(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """The record, and what is wrong with it; neither for a claim that is half written."""
    try:
        text = path.read_text(encoding="utf-8")
        record = json.loads(text) if text else None
    except OSError as error:
        return None, f"cannot be read: {error.strerror}"
    except ValueError:
        return None, "is not readable JSON"
    if record is None:
        return None, None
    if not isinstance(record, dict) or not record.keys() >= OF_AN_ATTEMPT:
        return None, "is not the record of an attempt"
    if record["status"] == "completed" and not isinstance(record.get("result"), dict):
        return None, "has no result although it says completed"
    return record, None


@lru_cache(maxsize=1000)
def _warn_once(path: Path, problem: str) -> None:
    """A command looks at the attempts of a stage several times."""
    logger.warning("%s %s; the attempt is left out", path, problem)
