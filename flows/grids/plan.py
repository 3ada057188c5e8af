"""What a grid would do: its distinct stages, which of them are cached, and how long the rest takes.

A stage whose inputs have yet to be computed has no key; it is then identified by its settings and
by those of everything before it, so that it is counted once however many cells need it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from flows.engine.checks import is_here, prepare_request
from flows.engine.nodes import numerics_of, processes_of
from flows.engine.walk import walk
from flows.grids.definition import Cell
from flows.method import Node, method
from flows.planning.estimates import Estimate, Estimator
from flows.planning.stage_states import CACHED, TO_RUN
from flows.recipes.request import Request, read_rows
from rosita_core.training.loop import total_steps
from tasks.cache.records import StageResult
from tasks.cache.shared_records import look
from tasks.cache.stage_key import canonical_config
from tasks.store.artifacts import json_digest


@dataclass(frozen=True)
class GridStage:
    """A stage of one or more cells.

    Attributes:
        identity: its key, or the digest of what is known of it.
        name: of the stage.
        key: None where an input has yet to be computed.
        status: "cached" or "to run".
        cells: ids of the cells that need it.
        processes: that compute it, a device each.
        estimate: of its seconds; None where it is cached.
        needs: identities of the stages that it reads from.
    """

    identity: str
    name: str
    key: str | None
    status: str
    cells: tuple[str, ...]
    processes: int
    estimate: Estimate | None
    needs: tuple[str, ...]


@dataclass(frozen=True)
class GridPlan:
    """All stages of a grid's cells.

    Attributes:
        cells: id -> identities of its stages, in their order.
        stages: identity -> stage.
    """

    cells: dict[str, tuple[str, ...]]
    stages: dict[str, GridStage]

    def of(self, cells: Iterable[Cell]) -> GridPlan:
        """The part of the plan that is of some of its cells."""
        chosen = {cell.id: self.cells[cell.id] for cell in cells}
        needed = dict.fromkeys(identity for stages in chosen.values() for identity in stages)
        stages = {
            identity: replace(
                self.stages[identity],
                cells=tuple(cell for cell in self.stages[identity].cells if cell in chosen),
            )
            for identity in needed
        }
        return GridPlan(chosen, stages)

    def to_run(self, cell: str) -> tuple[str, ...]:
        """Identities of the cell's stages that are not cached."""
        return tuple(i for i in self.cells[cell] if self.stages[i].status == TO_RUN)

    @property
    def missing(self) -> tuple[GridStage, ...]:
        """The distinct stages that are not cached."""
        return tuple(stage for stage in self.stages.values() if stage.status == TO_RUN)

    @property
    def seconds(self) -> float | None:
        """Estimated seconds of the missing stages that can be estimated; None where none can."""
        known = [s.estimate.seconds for s in self.missing if s.estimate and s.estimate.seconds]
        return sum(known) if known or not self.missing else None

    @property
    def unknown(self) -> tuple[GridStage, ...]:
        """The missing stages that nothing is known of."""
        return tuple(s for s in self.missing if s.estimate is None or s.estimate.seconds is None)


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


def plan_grid(requests: dict[str, Request]) -> GridPlan:
    """The stages of all cells; computes and writes nothing."""
    planner = _Planner()
    cells = {cell: planner.add(cell, request) for cell, request in requests.items()}
    return GridPlan(cells, planner.stages())


def limited(cells: tuple[Cell, ...], plan: GridPlan, max_cells: int | None) -> tuple[Cell, ...]:
    """The cells without those that go beyond `max_cells`; cells with nothing to compute are free.

    Raises:
        ValueError: where `max_cells` is below 1.
    """
    if max_cells is None:
        return cells
    if max_cells < 1:
        raise ValueError(f"max_cells must be at least 1, got {max_cells}")
    missing = [cell.id for cell in cells if plan.to_run(cell.id)][:max_cells]
    return tuple(cell for cell in cells if cell.id in missing or not plan.to_run(cell.id))


@dataclass
class _Found:
    node: Node
    request: Request
    key: str | None
    record: StageResult | None
    cells: list[str]
    rows: float | None
    needs: tuple[str, ...]


class _Planner:
    def __init__(self) -> None:
        self._found: dict[str, _Found] = {}
        # Many cells ask for the same key, and to verify an artifact is to read it.
        self._look = lru_cache(maxsize=None)(look)

    def add(self, cell: str, request: Request) -> tuple[str, ...]:
        """Take in one cell; identities of its stages."""
        numerics = numerics_of(request.recipe)
        identities: dict[str, str] = {}
        records: dict[str, StageResult] = {}
        for visited in walk(method(request), numerics, request.home, self._look):
            node, key = visited.node, visited.stage.known_key
            identity = key or json_digest(
                {
                    "stage": node.name,
                    "config": canonical_config(node.config),
                    "inputs": {role: identities[name] for role, name in node.inputs.items()},
                    "numerics": [
                        *(numerics.device, numerics.precision, numerics.deterministic),
                        processes_of(node, numerics),
                    ],
                }
            )
            if identity not in self._found:
                rows = _units(node, request, records)
                read = dict.fromkeys(node.inputs.values())
                needs = tuple(identities[f"{name}/stage"] for name in read)
                self._found[identity] = _Found(node, request, key, visited.result, [], rows, needs)
            found = self._found[identity]
            found.cells.append(cell)
            if found.record is not None:
                records[node.name] = found.record
            known = records.get(node.name)
            identities[node.name] = identity if known is None else known.artifact
            identities[f"{node.name}/stage"] = identity
        return tuple(value for name, value in identities.items() if name.endswith("/stage"))

    def stages(self) -> dict[str, GridStage]:
        estimators: dict[Any, Estimator] = {}
        stages = {}
        for identity, found in self._found.items():
            estimate, numerics = None, numerics_of(found.request.recipe)
            processes = processes_of(found.node, numerics)
            if found.record is None:
                home = found.request.home
                estimator = estimators.setdefault(home, Estimator(home))
                model = found.request.model.digest
                estimate = estimator.estimate(
                    found.node, model, numerics.device, processes, found.rows
                )
            status = TO_RUN if found.record is None else CACHED
            stages[identity] = GridStage(
                identity,
                found.node.name,
                found.key,
                status,
                tuple(found.cells),
                processes,
                estimate,
                found.needs,
            )
        return stages


def _units(node: Node, request: Request, records: dict[str, StageResult]) -> float | None:
    """Optimizer steps of a training, or rows of the augmentation, as far as they are known."""
    original = None
    if "data" in records:
        original = int(records["data"].metrics["rows_train"])
    elif is_here(request):
        original = read_rows(request.source).counts["train"]
    if node.name == "augment" or original is None:
        return original
    if not hasattr(node.config, "training"):
        return None
    rows = original
    if node.inputs.get("rows") == "augment":
        rows = original * (1 + request.recipe.augment.copies)
        if "augment" in records:
            rows = int(records["augment"].metrics["rows_train"])
    return float(total_steps(rows, node.config.training))
