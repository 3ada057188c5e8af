"""The union of the DAGs of some recipes: each distinct stage once, whoever needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from flows.engine.nodes import numerics_of, processes_of, stage_of
from flows.method import Node, method
from flows.recipes.request import Request
from tasks.cache.stage_key import Stage, canonical_config
from tasks.host.hardware import ResolvedNumerics
from tasks.store.artifacts import json_digest


@dataclass(frozen=True)
class Vertex:
    """A distinct stage.

    Attributes:
        id: digest of its settings and those of everything before it. Two vertices may still turn
            out to have one stage key.
        node: as the first cell that needs it has it.
        request, numerics: of that cell.
        needs: name of a stage that it reads from -> id of the vertex.
        cells: that need it, at least one, in their order.
    """

    id: str
    node: Node
    request: Request
    numerics: ResolvedNumerics
    needs: dict[str, str]
    cells: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the stage."""
        return self.node.name

    @property
    def processes(self) -> int:
        """That compute it."""
        return processes_of(self.node, self.numerics)

    def stage(self, artifacts: Mapping[str, str]) -> Stage:
        """The stage, given artifacts by id of their vertex, as far as there are any."""
        known = {name: artifacts[id_] for name, id_ in self.needs.items() if id_ in artifacts}
        return stage_of(self.node, known, self.numerics)


@dataclass(frozen=True)
class Graph:
    """Distinct stages.

    Attributes:
        vertices: id -> vertex, each after those that it needs, and the cells one after another.
        cells: cell -> name of a stage -> id of its vertex, in the order of the method.
    """

    vertices: dict[str, Vertex]
    cells: dict[str, dict[str, str]]

    def dependents(self, id_: str) -> tuple[str, ...]:
        """Ids of the vertices that read from one, directly or not, in their order."""
        found: list[str] = []
        for vertex in self.vertices.values():
            if {id_, *found} & set(vertex.needs.values()):
                found.append(vertex.id)
        return tuple(found)


def graph_of(requests: Mapping[str, Request]) -> Graph:
    """The graph of some cells by their names; reads no file."""
    vertices: dict[str, Vertex] = {}
    needed: dict[str, list[str]] = {}
    cells: dict[str, dict[str, str]] = {}
    for cell, request in requests.items():
        numerics = numerics_of(request.recipe)
        ids: dict[str, str] = {}
        for node in method(request):
            needs = {name: ids[name] for name in node.inputs.values()}
            id_ = ids[node.name] = _digest(node, needs, numerics)
            vertices.setdefault(id_, Vertex(id_, node, request, numerics, needs, ()))
            needed.setdefault(id_, []).append(cell)
        cells[cell] = ids
    found = {id_: replace(one, cells=tuple(needed[id_])) for id_, one in vertices.items()}
    return Graph(found, cells)


def _digest(node: Node, needs: Mapping[str, str], numerics: ResolvedNumerics) -> str:
    return json_digest(
        {
            "stage": node.name,
            "config": canonical_config(node.config),
            "inputs": {role: needs[name] for role, name in node.inputs.items()},
            "numerics": [
                *(numerics.device, numerics.precision, numerics.deterministic),
                *(numerics.hardware, processes_of(node, numerics)),
            ],
        }
    )
