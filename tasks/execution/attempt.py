"""One execution of a stage: its inputs, its output, its progress and what is recorded of it."""

import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.cache.checkpoints import StageCheckpoints, checkpoints_folder
from tasks.cache.metric_history import append, history_path
from tasks.cache.records import Context, StageResult, attempt_path, attempts, attempts_folder
from tasks.cache.stage_key import Stage
from tasks.execution.stage_inputs import StageInputs
from tasks.host.hardware import git_commit, hardware
from tasks.host.liveness import this_process
from tasks.host.logs import noted
from tasks.host.signals import able_to_save, signals_caught
from tasks.host.terminal import ProgressEvent, StageProgress, progress_display
from tasks.store.artifacts import write_json
from tasks.store.disk import DiskFull, is_full, no_room
from tasks.tracking.runs import ID_SECONDS, Tracking

__all__ = ["Context", "StageResult", "Work", "attempt", "attempts"]


class Work(StageInputs):
    """What a task's body needs while its stage runs; made by `attempt`."""

    def __init__(
        self,
        stage: Stage,
        context: Context,
        key: str,
        number: int,
        tracking: Tracking | None,
        run: str | None,
        progress: StageProgress,
    ) -> None:
        super().__init__(stage, context)
        self.key = key
        """The stage key."""
        self.number = number
        """The attempt's number, from 1."""
        self.tracking = tracking
        """None when the flow run is not tracked; so is `run`."""
        self.run = run
        """The handle of the attempt's tracked run."""
        self.finished: StageResult | None = None
        self.checkpoints = StageCheckpoints(
            checkpoints_folder(context.home, key),
            stage.name,
            context.checkpoint_seconds,
            context.checkpoint_steps,
            context.begin_anew,
        )
        self._began = time.monotonic()
        self._artifact: str | None = None
        self._history = history_path(context.home, stage.name, number)
        self._progress = progress

    @contextmanager
    def output(self) -> Iterator[Path]:
        """An empty directory for the stage's artifact; it enters the store when the block ends.

        When the block raises, nothing is stored. A stage has one output. Raises DiskFull when
        there is no room for it.
        """
        assert self._artifact is None, f"{self.stage.name} has one output, not two"
        try:
            with self.store.workspace() as folder:
                yield folder
                self._artifact = self.store.adopt(folder)
        except Exception as error:
            # A checkpoint that finds no room while an artifact is being made says so itself.
            if isinstance(error, DiskFull) or not is_full(error):
                raise
            raise no_room(f"the artifact of stage {self.stage.name}", self.store.root) from error

    @contextmanager
    def resumable(self) -> Iterator[StageCheckpoints]:
        """The checkpoints of the stage, for a kernel that asks whether one is due.

        While the block runs, a signal makes one due, and the kernel stops when it has saved it.
        """
        with able_to_save():
            yield self.checkpoints

    def report(self, event: ProgressEvent) -> None:
        """Show a kernel's progress and log its metrics at its step. Pass it as `report=`."""
        self._progress.update(event)
        if event.metrics or event.message:
            with noted(f"the history of stage {self.stage.name}"):
                append(self._history, event)
        if self.tracking is not None and self.run is not None:
            self.tracking.log_metrics(self.run, event.step, event.metrics)

    def result(self, metrics: Mapping[str, float | str]) -> StageResult:
        """The stage's result, once its output is stored. Return it from the task."""
        assert self._artifact is not None, f"{self.stage.name} must store its output first"
        before = self.checkpoints.seconds_before
        seconds = round(before + time.monotonic() - self._began, 3)
        self.finished = StageResult(
            stage=self.stage.name,
            key=self.key,
            artifact=self._artifact,
            metrics=dict(metrics),
            seconds=seconds,
            attempt=self.number,
            mlflow_run_id=self.mlflow_run_id(ID_SECONDS),
            finished_at=_timestamp(),
        )
        return self.finished

    def mlflow_run_id(self, wait: float) -> str | None:
        """The attempt's MLflow run; None when MLflow does not answer within `wait` seconds."""
        if self.tracking is None or self.run is None:
            return None
        return self.tracking.run_id(self.run, wait)


@contextmanager
def attempt(stage: Stage, context: Context) -> Iterator[Work]:
    """One execution of a stage, recorded whatever becomes of it; it goes on from a checkpoint.

    The block must call `Work.result` before it ends. An Exception makes the attempt failed, any
    other interruption (Ctrl-C, a termination signal, a cancelled flow) interrupted; both go on to
    the caller.
    """
    key = stage.key
    record: dict[str, Any] = {
        "stage": stage.name,
        "key": key,
        "components": stage.components,
        "recipe": context.recipe_name,
        "flow_run_id": context.flow_run_id,
        "status": "running",
        "started": _timestamp(),
        "finished": None,
        "source_parts": stage.closure.parts,
        **this_process(),
    }
    number, path = _claim(Path(context.home), stage.name, record)
    tracking, run = None, None
    try:
        if context.parent_run is not None:
            tracking = Tracking(context.home)
            run = tracking.start_child(stage, context, key, number, cached=False)
        record |= {"mlflow_run_id": None, "tracked_as": run}
        write_json(path, record)
        progress = progress_display().begin(context.position, context.total_stages, stage.name)
        work = Work(stage, context, key, number, tracking, run, progress)
    except Exception as error:
        with noted(f"attempt {number} of stage {stage.name}"):
            ended = {"status": "failed", "finished": _timestamp(), **_cause(error)}
            write_json(path, record | ended)
        raise
    record |= {"resumed_from": work.checkpoints.resumed_from}

    def close(status: str, run_status: str, **more: Any) -> None:
        record["mlflow_run_id"] = work.mlflow_run_id(0)
        with noted(f"attempt {number} of stage {stage.name}"):
            write_json(path, record | {"status": status, "finished": _timestamp(), **more})
        progress.end(status)
        if tracking is not None and run is not None:
            done = work.finished if status == "completed" else None
            metrics: dict[str, float | str] = {}
            tags: dict[str, str] = {}
            if work.checkpoints.resumed_from is not None:
                tags["rosita.resumed_from"] = str(work.checkpoints.resumed_from)
            if done is not None:
                metrics = {"seconds": done.seconds, **done.metrics}
                tags["rosita.artifact"] = done.artifact
            tracking.finish(run, run_status, metrics, tags)

    try:
        # Before the work, so that the record of an attempt that is killed has it, too.
        write_json(path, record)
        with signals_caught():
            yield work
        assert work.finished is not None, f"the task of {stage.name} must return work.result(...)"
        work.store.write_provenance(work.finished.artifact, _provenance(record, work.finished))
    except Exception as error:
        close("failed", "FAILED", **_cause(error))
        raise
    except BaseException as error:
        close("interrupted", "KILLED", error=type(error).__name__)
        raise
    close("completed", "FINISHED", result=work.finished.model_dump())


def _claim(home: Path, stage_name: str, record: Mapping[str, Any]) -> tuple[int, Path]:
    """Take the next number; creating the file exclusively keeps two processes apart."""
    folder = attempts_folder(home, stage_name)
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
        "hardware": hardware(),
    }


def _cause(error: Exception) -> dict[str, Any]:
    lines = "".join(traceback.format_exception(error)).splitlines()
    return {"error": f"{type(error).__name__}: {error}", "traceback": lines}


def _timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
