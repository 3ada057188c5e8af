"""What the documents of a home and of a shared store may hold, field by field.

Others may have written them, so whatever becomes a path or a number later is checked here: names,
digests, ids, times. What does not fit is not used.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,99}$")]
"""Of a stage; it becomes the name of a folder."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Of an artifact or a stage key."""
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
"""Of a run."""
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A text that a terminal only shows."""
Count = Annotated[int, Field(ge=0, le=2**53)]
Pid = Annotated[int, Field(ge=1, lt=2**31)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time must say its zone")
    return text


Moment = Annotated[str, AfterValidator(_moment)]
"""ISO 8601 with a zone."""


class Document(BaseModel):
    """Without further fields, and never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Note(BaseModel):
    """Of an earlier or later version it may hold more."""

    model_config = ConfigDict(frozen=True, extra="allow")


class StageResult(Document):
    """What a stage returns: where its artifact is and what was measured. Holds no path."""

    stage: Name
    key: Digest
    """The stage key that it was computed for."""
    artifact: Digest
    """The digest of its artifact."""
    metrics: dict[Line, float | Line]
    seconds: Seconds
    attempt: Count
    mlflow_run_id: Id | None
    """The run of the attempt that computed it; None when MLflow had not answered by then."""
    finished_at: Moment
    """In UTC."""


class Observation(Document):
    """What a kernel reported at a step."""

    step: Count
    metrics: dict[str, float]
    shape: str | None
    message: str | None
    phase: str | None = None


class Components(Note):
    """What a stage key is made of; see `Stage.components`."""

    config: dict[str, Any]
    inputs: dict[str, Digest]
    source: dict[str, str]
    libraries: dict[str, str]
    numerics: dict[str, Any]


class Machine(Note):
    """What a stage ran on."""

    cpu: str | None = None
    gpus: list[str] = []


class Provenance(Note):
    """Who made an artifact; it lies beside it."""

    stage: Name
    stage_key: Digest
    components: Components
    recipe: Line
    attempt: Count
    seconds: Seconds
    finished_at: Moment
    hardware: Machine


class AttemptRecord(Note):
    """What is known of one execution of a stage; see `tasks.execution.attempt.attempt`."""

    stage: Name
    key: Digest
    components: Components
    recipe: Line
    flow_run_id: Id | None
    status: Literal["running", "completed", "failed", "interrupted"]
    started: Moment
    finished: Moment | None
    source_parts: dict[str, dict[str, str]] | None = None
    host: Line | None = None
    pid: Pid | None = None
    process_started: float | None = None
    tracked_as: Id | None = None
    resumed_from: Count | None = None
    error: str | None = None
    result: StageResult | None = None


class StageOfRun(Note):
    """A stage in the summary of a run."""

    name: Name
    key: Digest
    artifact: Digest


class ModelOfRun(Note):
    """The compressed model in the summary of a run."""

    shape: Line
    params: Count
    score: float


class Registered(Note):
    """A version in MLflow's registry."""

    name: Line
    version: Line
    uri: Line


class Version(Note):
    """What a model is registered as, or would be."""

    name: Line
    tags: dict[Line, Line]
    description: Line


class RunSummary(Note):
    """What is read again of the summary of a run; see `flows.engine.summary`."""

    run_id: Id
    recipe: Line
    stages: list[StageOfRun]
    name: Line | None = None
    mlflow_run_id: Id | None = None
    mlflow_uri: Line | None = None
    recorded_as: Id | None = None
    student: ModelOfRun | None = None
    score_name: Line = ""
    retention: float | None = None
    registered_model: Registered | None = None
    version: Version | None = None
    gate: dict[str, Line | None] = {}


class LockHolder(Note):
    """Who has a lock."""

    pid: Pid
    host: Line
    since: Moment


class CheckpointAbout(Document):
    """What a checkpoint says of itself."""

    stage: Name
    unit: Count
    """Units that were done."""
    total: Count
    """Units in all."""
    seconds: Seconds
    """That the stage had taken until then, over all its attempts."""
    again: bool
    """Whether the stage was being computed again on purpose."""

    def is_ahead_of(self, other: Self) -> bool:
        """Whether it is the further one of the same stage.

        A stage of several phases counts other units in each: then the longer way is ahead.
        """
        if self.total == other.total:
            return self.unit > other.unit
        return self.seconds > other.seconds


class SharedResult(Document):
    """A result as machines share it."""

    result: StageResult
    provenance: Provenance | None
    history: list[Observation]
