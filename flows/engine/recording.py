"""Recording a flow run: its run at MLflow, the registry, its summary, a page of Prefect's."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import runtime
from prefect.artifacts import create_table_artifact

from flows.engine.gate import not_registered
from flows.engine.nodes import numerics_of
from flows.engine.prefect_loss import achieved, begun
from flows.engine.run import Run, StageError
from flows.engine.summary import comparison_rows, read_summary, summarize, write_summary
from flows.recipes.request import Request
from rosita_core.measuring.assessment import STUDENT, TEACHER, read_assessment
from tasks.home import Home
from tasks.host.logs import warn
from tasks.host.wording import error_line
from tasks.stages.register_model import register_model
from tasks.tracking.runs import FLUSH_SECONDS, Tracking

# Whoever interrupts a run does not want to wait for MLflow.
INTERRUPTED_SECONDS = 2.0


def run_and_record(request: Request, again: frozenset[str]) -> dict[str, Any]:
    """Run the whole method inside a flow run, and record it; returns the summary.

    Stages in `again` are computed whatever the cache says.
    """
    flow_run_id = str(runtime.flow_run.id)
    with tracked(request, flow_run_id) as (tracking, parent):
        run = Run(request, numerics_of(request.recipe), tracking, parent, flow_run_id)
        run.all_stages(again)
        try:
            record_run(run, register=True)
        except Exception as error:
            raise unrecorded(error, request, flow_run_id) from error
    # All is written down: whatever happens while Prefect is told, the run is complete.
    summary = achieved(read_summary(request.home, flow_run_id))
    _show_in_prefect(summary)
    return summary


@contextmanager
def tracked(
    request: Request, flow_run_id: str, grid_run: str | None = None, name: str | None = None
) -> Iterator[tuple[Tracking, str]]:
    """The tracking and the parent run of a flow run, which ends as the block does.

    The block finishes the parent run itself where all went well, since it knows the numbers.
    The run is called `name`, or by default as its recipe.
    """
    recipe = request.recipe
    tracking = Tracking(request.home)
    begun()
    parent = tracking.start_parent(
        recipe.task,
        recipe.name,
        recipe.model_dump(mode="json"),
        recipe.seed,
        flow_run_id,
        str(request.student),
        grid_run,
        name,
    )
    try:
        yield tracking, parent
    except BaseException as error:
        failed = isinstance(error, Exception)
        tracking.finish(parent, "FAILED" if failed else "KILLED", {}, {})
        tracking.flush(FLUSH_SECONDS if failed else INTERRUPTED_SECONDS)
        raise
    tracking.flush(FLUSH_SECONDS)


def unrecorded(error: Exception, request: Request, flow_run_id: str) -> StageError:
    """What to raise where the stages are done and their record cannot be written."""
    path = Home(request.home).record_error(flow_run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return StageError(
        f"the run of recipe {request.recipe.name} could not be recorded: {error_line(error)}; "
        f"its traceback is {path}"
    )


def record_run(run: Run, register: bool) -> None:
    """Write down what the run achieved: MLflow's parent run and model registry, summary.json.

    Recording is never cached: every run is complete in itself. Without `register` the model stays
    out of the registry, which is for models to be used.
    """
    request, results, tracking, parent = run.request, run.results, run.tracking, run.parent
    export_dir = run.store.path(results["export"][0].artifact)
    assessment = read_assessment(run.store.path(results["assess"][0].artifact))
    run_id = tracking.run_id(parent)
    summary = summarize(request, results, assessment, export_dir, run_id, run.flow_run_id)
    numbers = {
        name: value for name, value in results["assess"][0].metrics.items() if name != "shape"
    }
    numbers |= assessment.models[STUDENT].metrics
    numbers |= {f"teacher/{n}": v for n, v in assessment.models[TEACHER].metrics.items()}
    numbers["seconds"] = sum(result.seconds for result, cached in results.values() if not cached)
    recipe = request.recipe
    artifact = results["export"][0].artifact
    refused = not_registered(request, assessment) if register else None
    summary["gate"] = {"weak_teacher": run.weak_teacher, "not_registered": refused}
    summary["registered_model"] = None
    if register and refused is None:
        summary["registered_model"] = register_model(
            str(request.home),
            parent,
            recipe.task,
            str(export_dir),
            artifact,
            recipe.name,
            str(request.student),
            recipe.seed,
            wait_for=[run.states["export"]],
        )
    data = results["data"][0].metrics
    tracking.log_dataset(
        parent,
        request.recipe.task,
        str(data["fingerprint"]),
        request.recipe.data.source,
        {name: value for name, value in data.items() if name != "fingerprint"},
    )
    path = write_summary(summary, request.home)
    tracking.log_document(parent, path)
    tracking.finish(parent, "FINISHED", numbers, {"rosita.artifact": artifact})


def _show_in_prefect(summary: dict[str, Any]) -> None:
    """The comparison as a page of Prefect's; the run is complete without it, too."""
    try:
        create_table_artifact(
            key="rosita-comparison",
            table=comparison_rows(summary),
            description=f"{summary['recipe']}: teacher against student",
        )
    except Exception as error:
        warn(f"Prefect's server did not take the table of the comparison: {error_line(error)}")
