"""A stage's key, lock and record in Prefect: the options that make its task run once.

Prefect asks the policy for the key, takes the key's lock, looks for a record under the key, and
returns the stage's result from it or runs the task. Of Prefect's own ways two are not taken. Its
records name the serializer that they are read with, and its errors on the way to a key turn caching
off. So the key is a constant, whoever gets the lock finds a verified record or none, and a record
is read by `tasks.cache.records` alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.filesystems import WritableFileSystem
from prefect.serializers import Serializer
from prefect.transactions import IsolationLevel
from pydantic import Field

from tasks.cache.documents import StageResult
from tasks.cache.locks import StageLocks
from tasks.cache.records import read_record, record_content, verified_record
from tasks.cache.stage_key import Stage
from tasks.home import Home
from tasks.host.logs import warn
from tasks.host.wording import error_line
from tasks.store.json_files import sealed, unsealed

SERIALIZER = "rosita-stage-result"


@dataclass
class StageKeyPolicy(CachePolicy):
    """The cache key is the stage's key, whatever the task is called with."""

    key: str = ""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        """The stage key."""
        return self.key


@dataclass(frozen=True)
class VerifyingLocks(StageLocks):
    """The lock of a stage; whoever gets it finds a verified record, or none."""

    home: Path
    stage: str

    def acquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Take the lock, and set a record that cannot be trusted aside.

        Raises OSError, which fails the stage before it runs, where that is not possible.
        """
        if self.is_locked(key):
            warn(f"stage {self.stage} is running elsewhere; waiting for its result")
        if not super().acquire_lock(key, holder, acquire_timeout, hold_timeout):
            return False
        try:
            _, problem = verified_record(self.home, key, self.stage)
        except BaseException:
            self.release_lock(key, holder)
            raise
        if problem is not None:
            warn(f"stage {self.stage} will run again: {problem}. The damaged copy was set aside")
        return True


class StageRecords(WritableFileSystem):
    """Where Prefect looks for what it would know of a result: our answer, from our reading."""

    home: Path
    stage: str

    def read_path(self, path: str, _sync: bool = True) -> bytes | None:  # type: ignore[override]
        """The metadata of the record of a key, which name our serializer; None without a record.

        Called with the lock held, so the artifact has been verified.
        """
        record, _ = read_record(self.home, path, self.stage)
        if record is None:
            return None
        place = str(Home(self.home).results / path)
        return json.dumps({"storage_key": place, "serializer": {"type": SERIALIZER}}).encode()

    def write_path(self, path: str, content: bytes, _sync: bool = True) -> None:  # type: ignore[override]
        """Nothing: a record needs no metadata."""


class StageResultSerializer(Serializer):
    """A stage's result as the content of its record, with its digest; no class is named in it."""

    type: str = Field(default=SERIALIZER, frozen=True)

    def dumps(self, obj: Any) -> bytes:
        """The record; of a failed task its error, which nothing reads."""
        if isinstance(obj, StageResult):
            return record_content(obj)
        return sealed({"error": error_line(obj)})

    def loads(self, blob: bytes) -> StageResult:
        """The result in a record. Raises ValueError for whatever is none."""
        return StageResult.model_validate(unsealed(blob), strict=True)


def stage_options(home: str | Path, stage: Stage) -> dict[str, Any]:
    """The options of a stage's task, for `task.with_options(**stage_options(home, stage))`.

    Home and stage are known at run time only, so the options are set where the flow calls the task.
    In-memory caching is off because a record that was discarded must not come back from memory.
    """
    place = Path(home).absolute()
    policy = StageKeyPolicy(
        key=stage.key,
        key_storage=StageRecords(home=place, stage=stage.name),
        isolation_level=IsolationLevel.SERIALIZABLE,
        lock_manager=VerifyingLocks(Home(place).locks, place, stage.name),
    )
    return {
        "cache_policy": policy,
        "persist_result": True,
        "result_serializer": StageResultSerializer(),
        "result_storage": Home(place).results,
        "cache_result_in_memory": False,
    }
