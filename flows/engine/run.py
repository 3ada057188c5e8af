"""A flow run over one recipe: its stages, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prefect import runtime

from flows.engine.executor import Executor
from flows.engine.graph import graph_of
from flows.engine.prefect_loss import achieved
from flows.engine.recording import CellRun, StageError, recorded, show_in_prefect
from flows.engine.summary import summary_document
from flows.recipes.request import Request
from tasks.store.artifacts import Store


def run_recipe(request: Request, again: Iterable[str] = ()) -> dict[str, Any]:
    """Run every stage of a recipe or take it from the cache; returns the summary.

    Args:
        request: of the recipe.
        again: names of stages that are computed whatever the cache says.

    Raises:
        StageError: naming every stage that failed, once the others are done.
    """
    cell = _run(request, again)
    # All is written down: whatever happens while Prefect is told, the run is complete.
    summary = achieved(summary_document(request.home, cell.run_id))
    show_in_prefect(summary)
    return summary


def run_stage(request: Request, stage: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Compute one stage of a recipe and nothing else; returns a document of it.

    Args:
        request: of the recipe.
        stage: its name.
        inputs: name -> artifact of the stages that it reads from.

    Raises:
        StageError: where it failed.
    """
    cell = _run(request, [stage], only=stage, inputs=inputs)
    result, _ = cell.results[stage]
    return achieved(
        {
            "run_id": cell.run_id,
            "mlflow_run_id": None if cell.parent is None else cell.tracking.run_id(cell.parent),
            "recipe": request.recipe.name,
            "task": request.recipe.task,
            "stage": {"name": stage, **result.model_dump()},
            "folder": str(Store(request.home).path(result.artifact)),
        }
    )


def _run(
    request: Request,
    again: Iterable[str],
    only: str | None = None,
    inputs: Mapping[str, str] | None = None,
) -> CellRun:
    name, run_id = request.recipe.name, str(runtime.flow_run.id)
    graph = graph_of({name: request})
    ids, cell = graph.cells[name], CellRun(request, run_id, run_id, str(runtime.flow_run.name))
    given = {ids[other]: artifact for other, artifact in (inputs or {}).items()}
    executor = Executor(graph, {name: cell}, run_id, [ids[stage] for stage in again], given)
    with recorded(cell.tracking, {name: cell}):
        executor.run(only=None if only is None else ids[only])
        if error := cell.error or "; ".join(executor.failures.values()):
            raise StageError(error)
        if only is not None and cell.parent is not None:
            seconds = {"seconds": cell.results[only][0].seconds}
            cell.tracking.finish(cell.parent, "FINISHED", seconds, {})
    return cell
