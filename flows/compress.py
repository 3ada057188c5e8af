"""One recipe from data to a registered model, stage by stage: what the flow `compress` does."""

from __future__ import annotations

from typing import Any

from flows.engine.nodes import numerics_of
from flows.engine.preflight.flight import preflight_first
from flows.engine.run import run_recipe
from flows.recipes.request import Request


def compress(request: Request, preflight: bool | None = None) -> dict[str, Any]:
    """Compress a model; returns the summary that is also written as summary.json.

    Preflight runs the whole method in miniature first; None leaves that to the length of the run.
    """
    preflight_first(request, numerics_of(request.recipe), preflight)
    return run_recipe(request)
