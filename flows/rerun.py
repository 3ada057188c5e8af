"""One stage of a recipe again, whatever the cache says: what the flow `rerun` does."""

from __future__ import annotations

from itertools import takewhile
from typing import Any, Literal

from flows.engine.graph import graph_of
from flows.engine.run import run_recipe, run_stage
from flows.engine.walk import walk_recipe
from flows.method import check_stage, method
from flows.recipes.request import Request
from tasks.cache.shared_records import obtain

Scope = Literal["follow", "only", "downstream"]


def rerun(request: Request, stage: str, scope: Scope = "follow") -> dict[str, Any]:
    """Compute a stage again.

    Args:
        request: of the recipe whose stage it is.
        stage: its name, as `rosita plan` shows it.
        scope: "follow" runs the rest of the recipe too, where its inputs have changed; "only" runs
            nothing else, and what it reads must be cached; "downstream" computes everything that
            depends on it again.

    Returns the summary of the whole run, or for "only" a document of that stage.
    """
    check_stage(request, stage)
    if scope == "only":
        return run_stage(request, stage, cached_inputs(request, stage))
    graph = graph_of({request.recipe.name: request})
    after = graph.dependents(graph.cells[request.recipe.name][stage])
    more = [] if scope == "follow" else [graph.vertices[id_].name for id_ in after]
    return run_recipe(request, [stage, *more])


def cached_inputs(request: Request, stage: str) -> dict[str, str]:
    """Artifacts, by stage, of what `stage` reads.

    Raises:
        ValueError: where something that it reads is not cached.
    """
    # Nothing after it is fetched.
    before = takewhile(lambda one: one.vertex.name != stage, walk_recipe(request, obtain))
    found = {one.vertex.name: one.result for one in before if one.result is not None}
    node = next(node for node in method(request) if node.name == stage)
    read = dict.fromkeys(node.inputs.values())
    if missing := [name for name in read if name not in found]:
        raise ValueError(
            f"stage {stage} must have its inputs in the cache to run alone, got none of "
            f"{', '.join(missing)}; run without --only, or those first"
        )
    return {name: found[name].artifact for name in read}
