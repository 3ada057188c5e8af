"""What a grid would do: its distinct stages, which are cached, and how long the rest takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flows.engine.checks import prepare_request
from flows.engine.graph import Graph, Vertex, graph_of
from flows.engine.walk import walk
from flows.grids.definition import Cell
from flows.planning.estimates import Estimate, Estimator
from flows.planning.stage_states import CACHED, TO_RUN
from flows.recipes.request import Request
from tasks.cache.records import StageResult
from tasks.cache.shared_records import look


@dataclass(frozen=True)
class GridStage:
    """A distinct stage of a grid.

    Attributes:
        vertex: its place in the graph.
        key: None where an input has yet to be computed.
        estimate: of its seconds; None where it is cached.
    """

    vertex: Vertex
    key: str | None
    estimate: Estimate | None

    @property
    def name(self) -> str:
        """Of the stage."""
        return self.vertex.name

    @property
    def status(self) -> str:
        """ "cached" or "to run"."""
        return CACHED if self.estimate is None else TO_RUN

    @property
    def seconds(self) -> float | None:
        """Estimated; None where it is cached, or nothing is known of it."""
        return None if self.estimate is None else self.estimate.seconds


@dataclass(frozen=True)
class GridPlan:
    """All stages of a grid's cells.

    Attributes:
        graph: of the cells.
        stages: id of a vertex -> stage.
    """

    graph: Graph
    stages: dict[str, GridStage]

    def of(self, requests: Mapping[str, Request]) -> GridPlan:
        """The part of the plan that is of some of its cells."""
        graph = graph_of(requests)
        stages = {id_: replace(self.stages[id_], vertex=v) for id_, v in graph.vertices.items()}
        return GridPlan(graph, stages)

    def to_run(self, cell: str) -> tuple[str, ...]:
        """Names of the cell's stages that are not cached."""
        ids = self.graph.cells[cell]
        return tuple(name for name, id_ in ids.items() if self.stages[id_].status == TO_RUN)

    @property
    def missing(self) -> tuple[GridStage, ...]:
        """The distinct stages that are not cached."""
        return tuple(stage for stage in self.stages.values() if stage.status == TO_RUN)

    @property
    def seconds(self) -> float | None:
        """Estimated seconds of the missing stages that can be estimated; None where none can."""
        known = [stage.seconds for stage in self.missing if stage.seconds is not None]
        return sum(known) if known or not self.missing else None

    @property
    def unknown(self) -> tuple[GridStage, ...]:
        """The missing stages that nothing is known of."""
        return tuple(stage for stage in self.missing if stage.seconds is None)


def prepared(cells: Iterable[Cell], download: bool) -> dict[str, Request]:
    """The cells' requests by id, everything checked that can be before computing.

    Args:
        download: whether data may be fetched to be checked.

    Raises:
        ValueError: naming the cell, the field, the bound and the value.
        ConnectionError: where data cannot be fetched.
    """
    requests = {}
    for cell in cells:
        try:
            requests[cell.id] = prepare_request(cell.recipe, download)
        except ValueError as error:
            raise ValueError(f"cell {cell.id}: {error}") from None
    return requests


def plan_grid(requests: Mapping[str, Request]) -> GridPlan:
    """The stages of all cells; computes and writes nothing."""
    graph = graph_of(requests)
    results: dict[str, StageResult] = {}
    stages: dict[str, GridStage] = {}
    estimators: dict[Path, Estimator] = {}
    for visited in walk(graph, look):
        vertex, estimate = visited.vertex, None
        home = vertex.request.home
        if visited.result is not None:
            results[vertex.id] = visited.result
        else:
            estimator = estimators.setdefault(home, Estimator(home))
            estimate = estimator.of(vertex, results)
        stages[vertex.id] = GridStage(vertex, visited.stage.known_key, estimate)
    return GridPlan(graph, stages)


def limited(plan: GridPlan, max_cells: int | None) -> tuple[str, ...]:
    """The cells up to `max_cells` with something to compute; those with nothing are free."""
    missing = [cell for cell in plan.graph.cells if plan.to_run(cell)][:max_cells]
    return tuple(cell for cell in plan.graph.cells if cell in missing or not plan.to_run(cell))
