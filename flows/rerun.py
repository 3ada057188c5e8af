"""The flow `rerun`: one stage of a recipe again, whatever the cache says."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow, runtime

from flows.engine.checks import prepare_request
from flows.engine.nodes import numerics_of
from flows.engine.prefect_loss import achieved
from flows.engine.recording import run_and_record, tracked
from flows.engine.run import Run, StageError
from flows.engine.walk import cached, dependents
from flows.method import check_stage, method
from flows.recipes.request import Request
from flows.recipes.schema import Recipe
from tasks.cache.shared_records import obtain

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
    again = {stage} if scope == "follow" else {stage, *dependents(method(request), stage)}
    return run_and_record(request, frozenset(again))


def cached_inputs(request: Request, stage: str) -> dict[str, str]:
    """Artifacts, by stage, of what `stage` reads.

    Raises:
        ValueError: where something that it reads is not cached.
    """
    nodes = method(request)
    names = [node.name for node in nodes]
    before, node = nodes[: names.index(stage)], nodes[names.index(stage)]
    found = cached(before, numerics_of(request.recipe), request.home, obtain)
    read = dict.fromkeys(node.inputs.values())
    if missing := [name for name in read if name not in found]:
        raise ValueError(
            f"stage {stage} must have its inputs in the cache to run alone, got none of "
            f"{', '.join(missing)}; run without --only, or those first"
        )
    return {name: found[name].artifact for name in read}


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


__all__ = ["Scope", "StageError", "cached_inputs", "rerun"]
