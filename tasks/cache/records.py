"""What a finished stage leaves behind, and how it is found again without a Prefect server.

The result of a stage is `<home>/results/<stage key>`: the JSON of a `StageResult` with its own
digest (`tasks.store.json_files`). Whatever lies there is read in this one way.
"""

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.cache.documents import AttemptRecord, Provenance, StageResult
from tasks.home import Home
from tasks.store.artifacts import Store
from tasks.store.durable import to_disk
from tasks.store.json_files import read_file, read_json, sealed, unsealed
from tasks.store.removal import set_aside

logger = logging.getLogger(__name__)


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


def inspect_record(
    home: str | Path, key: str, stage: str | None
) -> tuple[StageResult | None, str | None]:
    """The verified result of a stage key, and what is wrong with it when there is one to distrust.

    (result, None) is a hit, (None, None) a stage that was never completed, (None, problem) a record
    that cannot be read or whose artifact is missing or damaged. Reads only.

    Args:
        stage: whose key it is; a record of another stage is distrusted. None for any.
    """
    record, problem = read_record(home, key, stage)
    if record is None:
        return None, problem
    problem = Store(Path(home)).verify(record.artifact)
    if problem is not None:
        return None, f"artifact {record.artifact[:12]}: {problem}"
    return record, None


def read_record(
    home: str | Path, key: str, stage: str | None
) -> tuple[StageResult | None, str | None]:
    """As `inspect_record`, but quick: the artifact is not looked at."""
    try:
        content = read_file(Home(home).results / key)
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except OSError as error:
        return None, f"its record cannot be read: {error.strerror or error}"
    return parse_record(content, key, stage)


def record_content(result: StageResult) -> bytes:
    """The content of the record of a result."""
    return sealed(result.model_dump())


def parse_record(
    content: bytes, key: str, stage: str | None
) -> tuple[StageResult | None, str | None]:
    """The result of a stage key in the content of its record, and what is wrong with that."""
    try:
        value = unsealed(content)
        record = StageResult.model_validate(value, strict=True)
    except ValidationError:
        return None, "its record is not the result of a stage"
    except ValueError as error:
        return None, f"its record {error}"
    return (record, None) if (problem := misplaced(record, key, stage)) is None else (None, problem)


def misplaced(record: StageResult, key: str, stage: str | None) -> str | None:
    """What is wrong with a result being the one of a stage and a key; None where nothing is."""
    if record.key != key:
        return f"its record belongs to the key {record.key[:12]}"
    if stage is not None and record.stage != stage:
        return f"its record is one of stage {record.stage}"
    return None


def record_names(path: Path) -> tuple[str, str] | None:
    """The stage and the artifact that a record names; None where it cannot be read."""
    record, _ = read_record(path.parent.parent, path.name, None)
    return None if record is None else (record.stage, record.artifact)


def touch_record(home: str | Path, key: str) -> None:
    """Note that a record was used now; what nobody uses for long is freed."""
    try:
        os.utime(Home(home).results / key)
    except OSError as error:
        # Another user's record in a shared home: the hit is as good.
        logger.warning("the use of record %s could not be noted: %s", key[:12], error.strerror)


def record_to_disk(home: str | Path, key: str) -> None:
    """Wait until a record would survive a loss of power, before what it replaces is dropped.

    Raises FileNotFoundError when there is no such record.
    """
    to_disk(Home(home).results / key)
    to_disk(Home(home).results)


def discard_record(home: str | Path, key: str) -> None:
    """Take a record that cannot be trusted out of use, and set its artifact aside.

    The record moves to `<home>/results/damaged/`, so that nothing is lost. Raises OSError where
    something cannot be moved.
    """
    record, _ = read_record(home, key, None)
    store = Store(Path(home))
    if record is not None and store.verify(record.artifact) is not None:
        store.set_aside(record.artifact)
    set_aside(Home(home).results / key, Home(home).damaged_results / key)


def verified_record(
    home: str | Path, key: str, stage: str
) -> tuple[StageResult | None, str | None]:
    """As `inspect_record`, for who has the lock of the key: a hit is a use, and noted as one.

    What cannot be trusted is set aside. Raises OSError, naming both, where that is not possible.
    """
    record, problem = inspect_record(home, key, stage)
    if record is not None:
        # Under the lock, so that nobody frees it between now and its use.
        touch_record(home, key)
    if problem is not None:
        try:
            discard_record(home, key)
        except OSError as error:
            raise OSError(
                f"{problem}, and it cannot be set aside: {error.strerror}: {error.filename}"
            ) from error
    return record, problem


def makers(home: str | Path, artifact: str) -> dict[str, dict[str, Any]]:
    """Who made an artifact: stage key -> the note beside it, which `Provenance` describes.

    A note that does not fit is left out: it is no part of the artifact.
    """
    notes = Store(Path(home)).provenance(artifact)
    return {key: note for key, note in notes.items() if _is_note(key, note)}


def _is_note(key: str, note: Any) -> bool:
    try:
        return Provenance.model_validate(note, strict=True).stage_key == key
    except ValidationError:
        return False


def attempt_path(home: str | Path, stage_name: str, number: int) -> Path:
    """The record of one attempt."""
    return Home(home).attempts_of(stage_name) / f"{number:06d}.json"


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
            records.append({**record, "number": int(path.stem)})
    return records


def unreadable_attempts(home: str | Path) -> list[Path]:
    """The records of all stages' attempts that cannot be read."""
    folders = sorted(Home(home).attempts.glob("*"))
    paths = [path for folder in folders for path in _attempt_paths(home, folder.name)]
    return [path for path in paths if _read_attempt(path)[1] is not None]


def _attempt_paths(home: str | Path, stage_name: str) -> list[Path]:
    paths = sorted(Home(home).attempts_of(stage_name).glob("[0-9]*.json"))
    return [path for path in paths if path.stem.isdecimal()]


def _read_attempt(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """The record, and what is wrong with it; neither for a claim that is half written."""
    try:
        content = read_file(path)
        record = read_json(content) if content else None
    except OSError as error:
        return None, f"cannot be read: {error.strerror}"
    except ValueError:
        return None, "is not readable JSON"
    if record is None:
        return None, None
    try:
        checked = AttemptRecord.model_validate(record, strict=True)
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors()[0]["loc"])
        return None, f"is not the record of an attempt: {field or 'it'} is missing or wrong"
    if checked.stage != path.parent.name:
        return None, f"is the record of an attempt of stage {checked.stage}"
    if checked.status == "completed" and None in (checked.result, checked.finished):
        return None, "has no result although it says completed"
    return record, None


@lru_cache(maxsize=1000)
def _warn_once(path: Path, problem: str) -> None:
    """A command looks at the attempts of a stage several times."""
    logger.warning("%s %s; the attempt is left out", path, problem)
