"""The flow `compress`: one recipe from data to a registered model, stage by stage."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.engine.checks import prepare_request
from flows.engine.nodes import numerics_of
from flows.engine.preflight.flight import preflight_first
from flows.engine.recording import run_and_record
from flows.recipes.schema import Recipe


@flow(name="compress", flow_run_name="{recipe.name}", validate_parameters=True)
def compress(recipe: Recipe, preflight: bool | None = None) -> dict[str, Any]:
    """Compress a model by a recipe; returns the summary that is also written as summary.json.

    Preflight runs the whole method in miniature first; None leaves that to the length of the run.
    """
    request = prepare_request(recipe, download=True)
    preflight_first(request, numerics_of(recipe), preflight)
    return run_and_record(request, frozenset())
