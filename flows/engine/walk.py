"""The walk over a recipe's stages: each gets its key from what the stages before it came to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.engine.nodes import stage_of
from flows.method import Node
from tasks.cache.records import StageResult
from tasks.cache.stage_key import Stage
from tasks.host.hardware import ResolvedNumerics

Found = tuple[StageResult | None, str | None]
"""A result, or what is wrong with the one that there is, or neither."""
Find = Callable[[Path, str, str], Found]
"""From a home, a stage key and the name of its stage to what is known under the key."""


@dataclass(frozen=True)
class Visited:
    """One node on the walk.

    Attributes:
        node: the node.
        stage: with its key, or without one where an input has yet to be computed.
        result: what was found under the key.
        problem: what is wrong with something found that cannot be used.
    """

    node: Node
    stage: Stage
    result: StageResult | None
    problem: str | None


def walk(
    nodes: Sequence[Node], numerics: ResolvedNumerics, home: Path, find: Find
) -> Iterator[Visited]:
    """Visit every node after those that it reads from; what `find` finds gives the others a key.

    Nothing is computed, and no key twice.
    """
    artifacts: dict[str, str] = {}
    for node in nodes:
        stage = stage_of(node, artifacts, numerics)
        result: StageResult | None = None
        problem: str | None = None
        if stage.known_key is not None:
            result, problem = find(home, stage.known_key, node.name)
        if result is not None:
            artifacts[node.name] = result.artifact
        yield Visited(node, stage, result, problem)


def cached(
    nodes: Sequence[Node], numerics: ResolvedNumerics, home: Path, find: Find
) -> dict[str, StageResult]:
    """The results of the stages that need not run, by name."""
    visited = walk(nodes, numerics, home, find)
    return {one.node.name: one.result for one in visited if one.result is not None}


def dependents(nodes: Sequence[Node], name: str) -> tuple[str, ...]:
    """Names of the stages that read from one, directly or not, in their order."""
    found: list[str] = []
    for node in nodes:
        if {name, *found} & set(node.inputs.values()):
            found.append(node.name)
    return tuple(found)


def inputs_of(node: Node, results: Mapping[str, StageResult]) -> dict[str, str]:
    """Artifacts, by name of the stage, of what a node reads, as far as there are results."""
    wanted = set(node.inputs.values())
    return {name: result.artifact for name, result in results.items() if name in wanted}
