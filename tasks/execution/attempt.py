"""One execution of a stage, recorded whatever becomes of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rosita_core.training.progress import Progress
from tasks.cache.metric_history import append, history_path
from tasks.cache.records import Context, StageResult, attempt_path, attempts
from tasks.cache.stage_key import Stage
from tasks.execution.places import Compute, WorkerLost, slot_for
from tasks.execution.prefect_page import PrefectPage
from tasks.execution.work import Computed
from tasks.home import Home
from tasks.host.hardware import git_commit
from tasks.host.liveness import this_process
from tasks.host.logs import noted, warn
from tasks.host.redaction import redacted
from tasks.host.signals import signals_caught
from tasks.host.terminal import StageProgress, progress_display
from tasks.host.wording import trace_of
from tasks.store.artifacts import Store, write_json
from tasks.tracking.runs import ID_SECONDS, Tracking

__all__ = ["Attempt", "Context", "Stage", "StageResult", "attempts", "carry_out"]

MOST_LOSSES = 3
"""A stage whose worker is lost so often is not tried again: mostly it lacks memory."""

Note = Callable[["Attempt", Computed], None]


def carry_out(
    compute: Compute, stage: Stage, context: Context, note: Note | None = None
) -> StageResult:
    """Compute a stage where this flow run computes, as an attempt; the body of every stage's task.

    A stage whose worker is lost goes on from its checkpoint, as another attempt.

    Args:
        compute: a module's own function.
        stage, context: of the stage.
        note: told of what it came to before the attempt ends.
    """
    for loss in range(1, MOST_LOSSES + 1):
        with slot_for(stage, context) as slot:
            try:
                with _recorded(stage, context) as ours:
                    computed = slot(compute, stage, context, ours)
                    if note is not None:
                        note(ours, computed)
                    return ours.completed(computed)
            except WorkerLost as error:
                if loss == MOST_LOSSES:
                    raise
                warn(f"stage {stage.name}: {error}; it goes on from what it has saved")
    raise AssertionError("the last loss is raised")


class Attempt:
    """What is recorded of one execution: in the home, at MLflow and on the terminal."""

    def __init__(self, stage: Stage, context: Context) -> None:
        """Take the next number and say that the stage runs."""
        self.stage = stage
        self._record: dict[str, Any] = {
            "stage": stage.name,
            "key": stage.key,
            "components": stage.components,
            "recipe": context.recipe_name,
            "flow_run_id": context.flow_run_id,
            "status": "running",
            "started": _timestamp(),
            "finished": None,
            "source_parts": stage.closure.parts,
            **this_process(),
        }
        self._home = Path(context.home)
        self.number, self._path = _claim(self._home, stage.name, self._record)
        """The attempt's number, from 1."""
        self._history = history_path(context.home, stage.name, self.number)
        self.tracking: Tracking | None = None
        """None when the flow run is not tracked; so is `run`."""
        self.run: str | None = None
        """The handle of the attempt's tracked run."""
        self._result: StageResult | None = None
        try:
            if context.parent_run is not None:
                self.tracking = Tracking(context.home)
                self.run = self.tracking.start_child(
                    stage, context, stage.key, self.number, cached=False
                )
            self._record |= {"mlflow_run_id": None, "tracked_as": self.run}
            self._write()
            title = context.title(stage.name)
            self._progress: StageProgress = progress_display().begin(
                context.position, context.total_stages, title
            )
            self._page = PrefectPage(title)
        except Exception as error:
            self._end("failed", **_cause(error))
            raise

    def resumed(self, unit: int | None) -> None:
        """Note where it goes on from before it works: one that is killed says so, too."""
        self._record |= {"resumed_from": unit}
        self._write()
        if unit is not None:
            self._page.resumed(unit)

    def report(self, event: Progress) -> None:
        """Show a kernel's progress and log its metrics at its step."""
        self._progress.update(event)
        self._page.update(event, self._progress.said)
        if event.metrics or event.message:
            with noted(f"the history of stage {self.stage.name}"):
                append(self._history, event)
        if self.tracking is not None and self.run is not None:
            self.tracking.log_metrics(self.run, event.step, event.metrics)

    def completed(self, computed: Computed) -> StageResult:
        """The stage's result, which is noted beside its artifact, too."""
        self._result = StageResult(
            stage=self.stage.name,
            key=self.stage.key,
            artifact=computed.artifact,
            metrics=computed.metrics,
            seconds=computed.seconds,
            attempt=self.number,
            mlflow_run_id=self._mlflow_run_id(ID_SECONDS),
            finished_at=_timestamp(),
        )
        note = _provenance(self._record, self._result) | {"hardware": computed.hardware}
        Store(self._home).write_provenance(computed.artifact, note)
        return self._result

    def close(self, status: str, run_status: str, **more: Any) -> None:
        """Say how it ended."""
        result = self._result if status == "completed" else None
        self._record["mlflow_run_id"] = self._mlflow_run_id(0)
        if result is not None:
            more["result"] = result.model_dump()
        self._end(status, **more)
        self._progress.end(status)
        self._page.end(status)
        if self.tracking is None or self.run is None:
            return
        tags = {}
        if self._record.get("resumed_from") is not None:
            tags["rosita.resumed_from"] = str(self._record["resumed_from"])
        metrics: dict[str, float | str] = {}
        if result is not None:
            metrics = {"seconds": result.seconds, **result.metrics}
            tags["rosita.artifact"] = result.artifact
        self.tracking.finish(self.run, run_status, metrics, tags)

    def _end(self, status: str, **more: Any) -> None:
        with noted(f"attempt {self.number} of stage {self.stage.name}"):
            ended = {"status": status, "finished": _timestamp(), **more}
            write_json(self._path, self._record | ended)

    def _write(self) -> None:
        write_json(self._path, self._record)

    def _mlflow_run_id(self, wait: float) -> str | None:
        """The attempt's MLflow run; None when MLflow does not answer within `wait` seconds."""
        if self.tracking is None or self.run is None:
            return None
        return self.tracking.run_id(self.run, wait)


@contextmanager
def _recorded(stage: Stage, context: Context) -> Iterator[Attempt]:
    """An attempt for the length of a block, which ends with `Attempt.completed`.

    An Exception makes the attempt failed, any other interruption (Ctrl-C, a termination signal, a
    cancelled flow) interrupted; both go on to the caller.
    """
    ours = Attempt(stage, context)
    try:
        with signals_caught():
            yield ours
    except Exception as error:
        ours.close("failed", "FAILED", **_cause(error))
        raise
    except BaseException as error:
        ours.close("interrupted", "KILLED", error=type(error).__name__)
        raise
    ours.close("completed", "FINISHED")


def _claim(home: Path, stage_name: str, record: Mapping[str, Any]) -> tuple[int, Path]:
    """Take the next number; creating the file exclusively keeps two processes apart."""
    folder = Home(home).attempts_of(stage_name)
    folder.mkdir(parents=True, exist_ok=True)
    number = max((int(path.stem) for path in folder.glob("[0-9]*.json")), default=0) + 1
    while True:
        path = attempt_path(home, stage_name, number)
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            number += 1
            continue
        write_json(path, record)
        return number, path


def _provenance(record: Mapping[str, Any], result: StageResult) -> dict[str, Any]:
    return {
        "stage": result.stage,
        "stage_key": result.key,
        "components": record["components"],
        "recipe": record["recipe"],
        "flow_run_id": record["flow_run_id"],
        "attempt": result.attempt,
        "mlflow_run_id": result.mlflow_run_id,
        "metrics": result.metrics,
        "seconds": result.seconds,
        "finished_at": result.finished_at,
        "git_commit": git_commit(),
    }


def _cause(error: Exception) -> dict[str, Any]:
    said = redacted(f"{type(error).__name__}: {error}")
    return {"error": said, "traceback": trace_of(error).splitlines()}


def _timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
