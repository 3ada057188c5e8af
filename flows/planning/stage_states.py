"""The state of every stage of a recipe: what its key is made of, and what its home has of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.engine.walk import walk_recipe
from flows.recipes.request import Request
from tasks.cache.records import StageResult, attempts
from tasks.cache.shared_records import look

CACHED, TO_RUN, WAITS = "cached", "to run", "waits"


@dataclass(frozen=True)
class SurveyedStage:
    """One stage of a recipe and what is known of it.

    Attributes:
        name: of the stage.
        inputs: role -> name of the stage whose artifact it is.
        components: what its key is made of (see `Stage.components`), with None for
            inputs that have yet to be computed.
        parts: module -> function or other part -> digest of its code.
        key: its stage key, or None where an input has yet to be computed.
        record: its verified result, of the home or else of the shared store, or None.
        problem: what is wrong with a record that cannot be used, or None.
        attempts: in this home, oldest first (see `tasks.cache.records.attempts`).
    """

    name: str
    inputs: Mapping[str, str]
    components: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, str]]
    key: str | None
    record: StageResult | None
    problem: str | None
    attempts: tuple[Mapping[str, Any], ...]

    @property
    def status(self) -> str:
        """ "cached", "to run" or "waits"."""
        if self.record is not None:
            return CACHED
        return WAITS if self.key is None else TO_RUN

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Stages whose artifacts have to be computed before its key is known."""
        inputs = self.components["inputs"]
        missing = (stage for role, stage in self.inputs.items() if inputs[role] is None)
        return tuple(dict.fromkeys(missing))


Survey = Mapping[str, SurveyedStage]


def survey(request: Request) -> Survey:
    """The stages by name, each after everything that it reads. Computes and writes nothing."""
    return {
        one.vertex.name: SurveyedStage(
            one.vertex.name,
            one.vertex.node.inputs,
            one.stage.components,
            one.stage.closure.parts,
            one.stage.known_key,
            one.result,
            one.problem,
            tuple(attempts(request.home, one.vertex.name)),
        )
        for one in walk_recipe(request, look)
    }


def nearest(names: tuple[str, ...], stages: Survey) -> tuple[str, ...]:
    """Those of the stages that no other one of them waits for itself, at whatever distance."""
    before = {name for other in names for name in _awaited(other, stages)}
    return tuple(name for name in names if name not in before)


def first_to_run(names: tuple[str, ...], stages: Survey) -> tuple[str, ...]:
    """The stages of `names` and before them that can run at once."""
    found = set(names).union(*(_awaited(name, stages) for name in names))
    return tuple(name for name in stages if name in found and stages[name].status == TO_RUN)


def _awaited(name: str, stages: Survey) -> set[str]:
    """Every stage that has to run before a stage's key is known."""
    direct = stages[name].waits_for
    return set(direct).union(*(_awaited(other, stages) for other in direct))
