"""A flow run over one recipe: its stages, what is recorded of it, and what its flow returns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prefect import runtime

from flows.engine.executor import Executor
from flows.engine.graph import graph_of
from flows.engine.prefect_loss import achieved
from flows.engine.recording import CellRun, StageError, recorded, show_in_prefect
from flows.engine.summary import read_summary
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
    name, run_id = request.recipe.name, str(runtime.flow_run.id)
    graph = graph_of({name: request})
    cells = {name: CellRun(request, run_id, run_id)}
    with recorded(cells):
        Executor(graph, cells, run_id, [graph.cells[name][stage] for stage in again]).run()
        if (error := cells[name].error) is not None:
            raise StageError(error)
    # All is written down: whatever happens while Prefect is told, the run is complete.
    summary = achieved(read_summary(request.home, run_id))
    show_in_prefect(summary)
    return summary


def run_stage(request: Request, stage: str, inputs: dict[str, str]) -> dict[str, Any]:
    """Compute one stage of a recipe and nothing else; returns a document of it.

    Args:
        request: of the recipe.
        stage: its name.
        inputs: name -> artifact of the stages that it reads from.

    Raises:
        StageError: where it failed.
    """
    name, run_id = request.recipe.name, str(runtime.flow_run.id)
    graph = graph_of({name: request})
    ids, cell = graph.cells[name], CellRun(request, run_id, run_id)
    given = {ids[other]: artifact for other, artifact in inputs.items()}
    with recorded({name: cell}):
        executor = Executor(graph, {name: cell}, run_id, [ids[stage]], given)
        executor.run(only=ids[stage])
        for failure in executor.failures.values():
            raise StageError(failure)
        result, _ = cell.results[stage]
        assert cell.parent is not None
        cell.tracking.finish(cell.parent, "FINISHED", {"seconds": result.seconds}, {})
    return achieved(
        {
            "run_id": run_id,
            "mlflow_run_id": cell.tracking.run_id(cell.parent),
            "recipe": name,
            "task": request.recipe.task,
            "stage": {"name": stage, **result.model_dump()},
            "folder": str(Store(request.home).path(result.artifact)),
        }
    )
