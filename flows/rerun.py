"""The flow `rerun`: one stage of a recipe again, whatever the cache says."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow, runtime

from flows.engine.checks import prepare_request
from flows.engine.nodes import numerics_of, stage_of
from flows.engine.prefect_loss import achieved
from flows.engine.recording import run_and_record, tracked
from flows.engine.run import Run, StageError
from flows.method import check_stage, method
from flows.recipes.request import Request
from flows.recipes.schema import Recipe
from tasks.cache.shared_records import obtain
from tasks.cache.stage_key import stage_key

Scope = Literal["follow", "only", "downstream"]


@flow(name="rerun", flow_run_name="{recipe.name}: {stage}", validate_parameters=True)
def rerun(recipe: Recipe, stage: str, scope: Scope = "follow") -> dict[str, Any]:
    """Compute a stage again.

    Args:
        recipe: whose stage.
        stage: its name, as `rosita plan` shows it.
        scope: "follow" runs the rest of the recipe too, where its inputs have changed; "only" runs
            nothing else, and what it reads must be cached; "downstream" computes everything that
            depends on it again.

    Returns the summary of the whole run, or for "only" a document of that stage.
    """
    request = prepare_request(recipe, download=True)
    check_stage(request, stage)
    if scope == "only":
        return _only(request, stage, cached_inputs(request, stage))
    again = {stage} if scope == "follow" else {stage, *dependents(request, stage)}
    return run_and_record(request, frozenset(again))


def dependents(request: Request, stage: str) -> tuple[str, ...]:
    """The stages that read from `stage`, directly or not, in their order."""
    found: list[str] = []
    for node in method(request):
        if {stage, *found} & set(node.inputs.values()):
            found.append(node.name)
    return tuple(found)


def cached_inputs(request: Request, stage: str) -> dict[str, str]:
    """Artifacts, by stage, of everything before `stage` that is cached.

    Raises:
        ValueError: where something that `stage` reads is not.
    """
    numerics = numerics_of(request.recipe)
    artifacts: dict[str, str] = {}
    for node in method(request):
        missing = [name for name in node.inputs.values() if name not in artifacts]
        if node.name == stage:
            if missing:
                raise ValueError(
                    f"stage {stage} must have its inputs in the cache to run alone, got none of "
                    f"{', '.join(dict.fromkeys(missing))}; run without --only, or those first"
                )
            return artifacts
        if not missing:
            key = stage_key(stage_of(node, artifacts, numerics))
            if (record := obtain(request.home, key)) is not None:
                artifacts[node.name] = record.artifact
    raise AssertionError(f"{stage} is no stage of the recipe")


def _only(request: Request, stage: str, artifacts: dict[str, str]) -> dict[str, Any]:
    flow_run_id = str(runtime.flow_run.id)
    with tracked(request, flow_run_id) as (tracking, parent):
        run = Run(request, numerics_of(request.recipe), tracking, parent, flow_run_id)
        run.one_stage(stage, artifacts)
        result, _ = run.results[stage]
        tracking.finish(parent, "FINISHED", {"seconds": result.seconds}, {})
    document = {
        "run_id": flow_run_id,
        "mlflow_run_id": tracking.run_id(parent),
        "recipe": request.recipe.name,
        "task": request.recipe.task,
        "stage": {"name": stage, **result.model_dump()},
        "folder": str(run.store.path(result.artifact)),
    }
    return achieved(document)


__all__ = ["Scope", "StageError", "cached_inputs", "dependents", "rerun"]
