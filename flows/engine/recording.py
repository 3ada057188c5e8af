"""Recording the run of a recipe: its run at MLflow, the registry, its summary, a page of Prefect's.

Every flow run is a run of cells: `compress` of one, a grid of many. What is recorded is never
cached: every run is complete in itself.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from prefect import State
from prefect.artifacts import create_table_artifact

from flows.engine.agreement import dev_rows, differing_rows
from flows.engine.gate import not_registered, stopped, stops, weak_student, weak_teacher
from flows.engine.learning_curves import last_training, record_learning_curve
from flows.engine.pages import Link, note
from flows.engine.prefect_loss import begun
from flows.engine.summary import (
    comparison_rows,
    description,
    summarize,
    version_tags,
    write_summary,
)
from flows.method import method
from flows.recipes.request import Request
from rosita_core.measuring.assessment import STUDENT, TEACHER, read_assessment
from tasks.cache.records import Context, StageResult
from tasks.cache.stage_key import Stage
from tasks.home import Home
from tasks.host.failure import Failure
from tasks.host.logs import noted, warn
from tasks.host.terminal import progress_display
from tasks.host.wording import error_line, trace_of
from tasks.stages.catalogue import trainings
from tasks.store.artifacts import Store
from tasks.tracking.register_model import example_of, register_model
from tasks.tracking.runs import FLUSH_SECONDS, ID_SECONDS, Tracking

# Whoever interrupts a run does not want to wait for MLflow.
INTERRUPTED_SECONDS = 2.0


class StageError(Failure):
    """A stage failed; the message names stage, attempt, recipe and where to look."""


@dataclass(frozen=True)
class Done:
    """A stage that is done.

    Attributes:
        stage, context: that it was run with, for the first cell that needs it.
        state: Prefect's.
        result: what it came to.
        cached: whether it came from the cache.
    """

    stage: Stage
    context: Context
    state: State
    result: StageResult
    cached: bool


class CellRun:
    """The run of one recipe within a flow run.

    Attributes:
        cell: `<grid>/<cell>`; None where the recipe is the whole flow run.
        parent: the id of its tracked run in the home's own store, once it has begun.
        results: name -> (result, whether it came from the cache) of the stages that are done.
        error: why it is not complete, once it has ended.
        weak_teacher: what is wrong with the teacher, in a sentence, once it is known.
        link: from Prefect's page of the flow run to MLflow's, once there is a tracked run.
    """

    cell: str | None = None
    registers = True
    """Whether its model enters the registry, which is for models to be used."""

    def __init__(
        self, request: Request, run_id: str, flow_run_id: str, name: str | None = None
    ) -> None:
        """Prepare a run.

        Args:
            request: of the recipe.
            run_id: of the recipe's run; its summary lies under it.
            flow_run_id: Prefect's.
            name: of the run; None: that of its recipe.
        """
        self.request = request
        self.name = name or request.recipe.name
        self.run_id = run_id
        self.flow_run_id = flow_run_id
        self.tracking = Tracking(request.home)
        self.parent: str | None = None
        self.results: dict[str, tuple[StageResult, bool]] = {}
        self.error: str | None = None
        self.weak_teacher: str | None = None
        self.link: Link | None = None
        self._names = [node.name for node in method(request)]
        self._export: State | None = None
        self._pending: list[tuple[Done, bool]] = []
        # Stages of one cell start in several threads.
        self._guard = threading.Lock()

    def begin(self) -> None:
        """Open the tracked run, unless it is open: its first stage starts, or its last is done."""
        with self._guard:
            if self.parent is None:
                self.parent = self.start()
                self.tracking.log_tags(self.parent, note(self.request.home, "", self.flow_run_id))
                if self.link is None:
                    self.link = Link(self.tracking, self.parent, self.name)
                begun()
                for done, mine in self._pending:
                    self._record(done, mine)
        self._show_link()

    def _show_link(self) -> None:
        if self.link is not None:
            self.link.show()

    def start(self) -> str:
        """Open the tracked run; its id."""
        recipe = self.request.recipe
        values, shape = recipe.model_dump(mode="json"), self.request.goal
        return self.tracking.start_parent(
            *(recipe.of_problem, recipe.name, values, recipe.seed, self.flow_run_id, shape),
            name=self.name,
        )

    def running(self, name: str) -> AbstractContextManager[None]:
        """A stage runs in the block, for this cell first."""
        return nullcontext()

    def tell_hit(self, done: Done) -> None:
        """Say that a stage came from the cache."""
        place = f"[{done.context.position}/{done.context.total_stages}]"
        progress_display().line(f"{place} {done.stage.name}: cached")

    def note(self, done: Done, mine: bool) -> None:
        """Take in a stage that is done; `mine` where it was run for this cell first."""
        self.results[done.stage.name] = (done.result, done.cached or not mine)
        if done.cached and mine:
            self.tell_hit(done)
        if done.stage.name == "export":
            self._export = done.state
        with self._guard:
            if self.parent is None:
                self._pending.append((done, mine))
            else:
                self._record(done, mine)
        # A server that is not this machine's gives the run its id when it hears of it.
        self._show_link()

    def _record(self, done: Done, mine: bool) -> None:
        assert self.parent is not None
        name, recipe = done.stage.name, self.request.recipe
        if done.cached or not mine:
            ours = {"parent_run": self.parent, "cell": self.cell, "recipe_name": recipe.name}
            context = done.context.model_copy(
                update={**ours, "task": recipe.of_problem, "seed": recipe.seed}
            )
            self.tracking.record_cached(done.stage, done.result, context)
        if name in trainings():
            last, home = name == last_training(self._names), self.request.home
            with noted(f"the learning curve of stage {name}"):
                record_learning_curve(self.tracking, self.parent, home, done.result, last)

    def judge_teacher(self, done: Done) -> str | None:
        """Say where the teacher is too weak; why the recipe's gate stops the run then, or None."""
        self.weak_teacher = weak_teacher(self.request, done.result)
        if self.weak_teacher is None:
            return None
        if stops(self.request):
            return stopped(self.request, self.weak_teacher)
        warn(self.weak_teacher)
        return None

    def end(self, error: str | None) -> None:
        """Record that nothing of it runs any more; `error` says why it is not complete."""
        self.begin()
        self.error = error
        if error is None:
            try:
                self._finish()
            except Exception as problem:
                self.error = self._unrecorded(problem)
        self._show_link()
        if self.error is not None and self.parent is not None:
            self.tracking.finish(self.parent, "FAILED", {}, {})

    def _unrecorded(self, error: Exception) -> str:
        """What to say where the stages are done and their record cannot be written."""
        path = Home(self.request.home).record_error(self.run_id)
        said = (
            f"the run of recipe {self.request.recipe.name} could not be recorded: "
            f"{error_line(error)}"
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(trace_of(error), encoding="utf-8")
        except OSError:
            # Of a full disk, which the error tells of as well.
            return said
        return f"{said}; its traceback is {path}"

    def _finish(self) -> None:
        """Write down what it achieved: MLflow's run and model registry, summary.json."""
        assert self.parent is not None
        request, results, tracking, parent = self.request, self.results, self.tracking, self.parent
        results = self.results = {name: results[name] for name in self._names}
        store, recipe, artifact = Store(request.home), request.recipe, results["export"][0].artifact
        export_dir = store.path(artifact)
        assessment = read_assessment(store.path(results["assess"][0].artifact))
        mlflow_run_id = tracking.run_id(parent, ID_SECONDS)
        summary = summarize(request, results, assessment, export_dir, mlflow_run_id, self.run_id)
        summary |= {"recorded_as": parent, "name": self.name}
        numbers = {
            name: value for name, value in results["assess"][0].metrics.items() if name != "shape"
        }
        numbers |= assessment.models[STUDENT].metrics
        numbers |= {f"teacher/{n}": v for n, v in assessment.models[TEACHER].metrics.items()}
        numbers["majority_score"] = summary["majority_score"]
        if summary["agreement"] is not None:
            numbers["agreement"] = summary["agreement"]
        numbers |= {
            name: value
            for name, value in results["export"][0].metrics.items()
            if "/" in name and not isinstance(value, str)
        }
        numbers["seconds"] = sum(
            result.seconds for result, cached in results.values() if not cached
        )
        dev = dev_rows(store.path(results["data"][0].artifact))
        refused = not_registered(request, assessment)
        tags = version_tags(recipe, summary, dev.fingerprint)
        said = description(summary)
        summary["version"] = {
            "name": f"rosita-{recipe.of_problem}",
            "tags": tags,
            "description": said,
        }
        weak = None if refused else weak_student(assessment)
        summary["gate"] = {
            "not_registered": refused,
            "weak_student": weak,
            "weak_teacher": self.weak_teacher,
        }
        summary["registered_model"] = None
        if self.registers and refused is None:
            summary["registered_model"] = register_model(
                str(request.home),
                parent,
                recipe.of_problem,
                str(export_dir),
                artifact,
                tags,
                said,
                example_of(store.path(results["data"][0].artifact)),
                wait_for=[self._export],
            )
        data = results["data"][0].metrics
        tracking.log_dataset(
            parent,
            recipe.task,
            str(data["fingerprint"]),
            recipe.data.source,
            {name: value for name, value in data.items() if name != "fingerprint"},
        )
        tracking.log_document(parent, write_summary(summary, request.home))
        rows = differing_rows(assessment, dev)
        if rows is not None:
            text = rows.to_csv(index=False)
            with noted("the rows on which student and teacher differ"):
                Home(request.home).errors(self.run_id).write_text(text, encoding="utf-8")
            tracking.log_text(parent, Home(request.home).errors(self.run_id).name, text)
        last = {
            "rosita.artifact": artifact,
            "rosita.method": recipe.method,
            "rosita.shape": assessment.models[STUDENT].shape,
            **note(request.home, said, self.flow_run_id),
        }
        tracking.finish(parent, "FINISHED", numbers, last)


@contextmanager
def recorded(
    tracking: Tracking, cells: Mapping[str, CellRun], above: str | None = None
) -> Iterator[None]:
    """Cells of a flow run, whose tracked runs end as the block does where they did not before.

    So does the run `above` them, where the block is interrupted or fails.
    """
    seconds = FLUSH_SECONDS
    try:
        yield
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        for run in [*(cell.parent for cell in cells.values()), above]:
            if run is not None:
                tracking.finish(run, status, {}, {})
        seconds = FLUSH_SECONDS if status == "FAILED" else INTERRUPTED_SECONDS
        raise
    finally:
        tracking.flush(seconds)


def show_in_prefect(summary: Mapping[str, Any]) -> None:
    """The comparison as a page of Prefect's; the run is complete without it, too."""
    run = summary["mlflow_run_id"]
    recorded_as = "" if run is None else f"; MLflow run {run}"
    try:
        create_table_artifact(
            key="rosita-comparison",
            table=comparison_rows(dict(summary)),
            description=f"{summary['recipe']}: teacher against student{recorded_as}",
        )
    except Exception as error:
        warn(f"Prefect's server did not take the table of the comparison: {error_line(error)}")
