"""The cache policy of the stages, and the options that put it to work in a Prefect task.

Prefect asks the policy for a key, takes the key's lock, and returns the record stored under the key
if there is one. The policy therefore verifies a record before it names its key: what cannot be
trusted is moved out of the way, and Prefect sees a miss.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.transactions import IsolationLevel

from tasks.cache.locks import StageLocks
from tasks.cache.records import (
    discard_record,
    find_record,
    inspect_record,
    results_folder,
    touch_record,
)
from tasks.cache.stage_key import Stage
from tasks.home import Home
from tasks.host.logs import warn

__all__ = ["StageKeyPolicy", "find_record", "stage_options"]


@dataclass
class StageKeyPolicy(CachePolicy):
    """The stage key of the task's parameter `stage` is its cache key; hits are verified."""

    home: str = ""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        """The stage key, after its record, if any, has been verified.

        Waits while another run computes the same stage. Raises TypeError when the task has no
        parameter `stage`, ValueError when the policy has no home (see `stage_options`).
        """
        stage = inputs.get("stage")
        if not isinstance(stage, Stage):
            raise TypeError(f"stage must be a Stage, got {type(stage).__name__}")
        if not self.home:
            raise ValueError("home must be set on the cache policy, got none; see stage_options")
        key = stage.key
        locks = StageLocks(Home(self.home).locks)
        if locks.is_locked(key):
            warn(f"stage {stage.name} is running elsewhere; waiting for its result")
        with locks.held(key, f"verification-{uuid.uuid4().hex}"):
            record, problem = inspect_record(self.home, key)
            if record is not None:
                # Under the lock, so that nobody frees it between now and its use.
                touch_record(self.home, key)
            if problem is not None:
                warn(
                    f"stage {stage.name} will run again: {problem}. The damaged copy was set aside"
                )
                discard_record(self.home, key)
        return key


def stage_options(home: str | Path) -> dict[str, Any]:
    """The options of a stage's task, for `task.with_options(**stage_options(home))` in a flow.

    The home is known at run time only, in a worker as on the command line, so the options are set
    where the flow calls the task. Results are JSON below the home; in-memory caching is off because
    a record that was discarded must not come back from memory.
    """
    place = Path(home).absolute()
    policy = StageKeyPolicy(
        home=str(place),
        isolation_level=IsolationLevel.SERIALIZABLE,
        lock_manager=StageLocks(Home(place).locks),
    )
    return {
        "cache_policy": policy,
        "persist_result": True,
        "result_serializer": "json",
        "result_storage": results_folder(place),
        "cache_result_in_memory": False,
    }
