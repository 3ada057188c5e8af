"""The flow `compress`: one recipe from data to a registered model, stage by stage."""

from __future__ import annotations

import traceback
from typing import Any

from prefect import State, flow, runtime
from prefect.artifacts import create_table_artifact

from flows.method import method
from flows.preflight import preflight_first
from flows.preparation import prepare_request
from flows.recipe import Recipe
from flows.request import Request
from flows.stages import numerics_of, stage_of
from flows.summary import RUNS, comparison_rows, summarize, write_summary
from rosita_core.measuring.assessment import STUDENT, TEACHER, read_assessment
from tasks.assess_student import assess_student
from tasks.attempt import Context, StageResult
from tasks.augment_data import augment_data
from tasks.caching import stage_options
from tasks.distill_student import distill_student
from tasks.export_model import export_model
from tasks.finetune_teacher import finetune_teacher
from tasks.hardware import Numerics
from tasks.prepare_data import prepare_data
from tasks.prune_depth import prune_depth
from tasks.prune_one_step import prune_one_step
from tasks.prune_width import prune_width
from tasks.records import attempt_path, attempts
from tasks.register_model import register_model
from tasks.store import Store
from tasks.tracking import Tracking

TASKS = {
    "data": prepare_data,
    "teacher": finetune_teacher,
    "augment": augment_data,
    "student": distill_student,
    "depth": prune_depth,
    "width": prune_width,
    "one-step": prune_one_step,
    "assess": assess_student,
    "export": export_model,
}


class StageError(RuntimeError):
    """A stage failed; the message names stage, attempt, recipe and where to look."""


@flow(name="compress", flow_run_name="{recipe.name}", validate_parameters=True)
def compress(recipe: Recipe, preflight: bool | None = None) -> dict[str, Any]:
    """Compress a model by a recipe; returns the summary that is also written as summary.json.

    Preflight runs the whole method in miniature first; None leaves that to the length of the run.
    """
    request = prepare_request(recipe, download=True)
    numerics = numerics_of(recipe)
    preflight_first(request, numerics, TASKS, preflight)
    tracking = Tracking(request.home)
    flow_run_id = str(runtime.flow_run.id)
    parent = tracking.start_parent(
        recipe.task,
        recipe.name,
        recipe.model_dump(mode="json"),
        recipe.seed,
        flow_run_id,
        str(request.student),
    )
    try:
        results, exported = run_stages(request, numerics, tracking, parent, flow_run_id)
        summary = record(request, results, exported, tracking, parent, flow_run_id)
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        tracking.finish(parent, status, {}, {})
        if isinstance(error, StageError) or not isinstance(error, Exception):
            raise
        raise _unrecorded(error, request, flow_run_id) from error
    return summary


def run_stages(
    request: Request, numerics: Numerics, tracking: Tracking, parent: str, flow_run_id: str
) -> tuple[dict[str, tuple[StageResult, bool]], State]:
    """Run every stage or take it from the cache.

    Returns (result, cached) by stage name, and the state of the last stage, for what comes after.
    """
    nodes = method(request)
    states: dict[str, State] = {}
    results: dict[str, tuple[StageResult, bool]] = {}
    for position, node in enumerate(nodes, start=1):
        artifacts = {name: result.artifact for name, (result, _) in results.items()}
        stage = stage_of(node, artifacts, numerics)
        context = Context(
            home=str(request.home),
            parent_run_id=parent,
            recipe_name=request.recipe.name,
            task=request.recipe.task,
            seed=request.recipe.seed,
            flow_run_id=flow_run_id,
            total_stages=len(nodes),
            position=position,
            device=numerics.device,
            precision=numerics.precision,
            threads=numerics.threads,
        )
        task = TASKS[node.name].with_options(**stage_options(request.home))
        upstream = [states[name] for name in dict.fromkeys(node.inputs.values())]
        state = task(stage, context, upstream, return_state=True)
        if not state.is_completed():
            raise _failure(node.name, request, state, flow_run_id)
        states[node.name] = state
        result: StageResult = state.result()
        cached = state.name == "Cached"
        if cached:
            tracking.record_cached(stage, result, context)
        results[node.name] = (result, cached)
    return results, states[nodes[-1].name]


def _failure(stage: str, request: Request, state: State, flow_run_id: str) -> StageError:
    recipe = request.recipe.name
    cause = one_line(state.result(raise_on_failure=False))
    made = [r for r in attempts(request.home, stage) if r["flow_run_id"] == flow_run_id]
    if not made:
        return StageError(f"stage {stage} of recipe {recipe} could not start: {cause}")
    number = made[-1]["number"]
    record = attempt_path(request.home, stage, number)
    return StageError(
        f"stage {stage} failed in attempt {number} of recipe {recipe}: {cause}; "
        f"its record is {record}"
    )


def _unrecorded(error: Exception, request: Request, flow_run_id: str) -> StageError:
    path = request.home / RUNS / flow_run_id / "error.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return StageError(
        f"the run of recipe {request.recipe.name} could not be recorded: {one_line(error)}; "
        f"its traceback is {path}"
    )


def one_line(error: Any) -> str:
    """An error as `Type: message` without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def record(
    request: Request,
    results: dict[str, tuple[StageResult, bool]],
    exported: State,
    tracking: Tracking,
    parent: str,
    flow_run_id: str,
) -> dict[str, Any]:
    """Write down what the run achieved: MLflow's parent run and model registry, summary.json.

    Recording is never cached: every run is complete in itself.
    """
    store = Store(request.home)
    export_dir = store.path(results["export"][0].artifact)
    assessment = read_assessment(store.path(results["assess"][0].artifact))
    summary = summarize(request, results, assessment, export_dir, parent, flow_run_id)
    numbers = {
        name: value for name, value in results["assess"][0].metrics.items() if name != "shape"
    }
    numbers |= assessment.models[STUDENT].metrics
    numbers |= {f"teacher/{n}": v for n, v in assessment.models[TEACHER].metrics.items()}
    numbers["seconds"] = sum(result.seconds for result, cached in results.values() if not cached)
    recipe = request.recipe
    model = register_model(
        str(request.home),
        parent,
        recipe.task,
        str(export_dir),
        recipe.name,
        str(request.student),
        recipe.seed,
        wait_for=[exported],
    )
    summary["registered_model"] = {"name": model.name, "version": model.version, "uri": model.uri}
    data = results["data"][0].metrics
    tracking.log_dataset(
        parent,
        request.recipe.task,
        str(data["fingerprint"]),
        request.recipe.data.source,
        {name: value for name, value in data.items() if name != "fingerprint"},
    )
    path = write_summary(summary, request.home)
    tracking.client.log_artifact(parent, str(path))
    artifact = results["export"][0].artifact
    tracking.finish(parent, "FINISHED", numbers, {"rosita.artifact": artifact})
    create_table_artifact(
        key="rosita-comparison",
        table=comparison_rows(summary),
        description=f"{request.recipe.name}: teacher against student",
    )
    return summary
