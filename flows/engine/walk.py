"""The walk over a graph: each stage gets its key from what the stages before it came to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.engine.graph import Graph, Vertex, graph_of
from flows.recipes.request import Request
from tasks.cache.records import StageResult
from tasks.cache.stage_key import Stage

Found = tuple[StageResult | None, str | None]
"""A result, or what is wrong with the one that there is, or neither."""
Find = Callable[[Path, str, str], Found]
"""From a home, a stage key and the name of its stage to what is known under the key."""


@dataclass(frozen=True)
class Visited:
    """One vertex on the walk.

    Attributes:
        vertex: the vertex.
        stage: with its key, or without one where an input has yet to be computed.
        result: what was found under the key.
        problem: what is wrong with something found that cannot be used.
    """

    vertex: Vertex
    stage: Stage
    result: StageResult | None
    problem: str | None


def walk(graph: Graph, find: Find) -> Iterator[Visited]:
    """Visit every vertex after those that it needs; what `find` finds gives the others a key.

    Nothing is computed, and no key twice.
    """
    artifacts: dict[str, str] = {}
    for vertex in graph.vertices.values():
        stage = vertex.stage(artifacts)
        result: StageResult | None = None
        problem: str | None = None
        if stage.known_key is not None:
            result, problem = find(vertex.request.home, stage.known_key, vertex.name)
        if result is not None:
            artifacts[vertex.id] = result.artifact
        yield Visited(vertex, stage, result, problem)


def walk_recipe(request: Request, find: Find) -> Iterator[Visited]:
    """The same over one recipe, whose stages have distinct names."""
    return walk(graph_of({request.recipe.name: request}), find)


def cached(request: Request, find: Find) -> dict[str, StageResult]:
    """The results of a recipe's stages that need not run, by name."""
    visited = walk_recipe(request, find)
    return {one.vertex.name: one.result for one in visited if one.result is not None}
