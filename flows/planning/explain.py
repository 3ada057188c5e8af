"""Why a stage has to run: what differs from its last completed attempt, down to the root causes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.method import check_stage
from flows.planning.attempts import Made, basis, maker, newest_trouble, recipe_of
from flows.planning.differences import Difference, differences
from flows.planning.stage_states import (
    CACHED,
    TO_RUN,
    WAITS,
    Survey,
    SurveyedStage,
    nearest,
    survey,
)
from flows.recipes.request import Request

NEVER = "never run"


@dataclass(frozen=True)
class Reasons:
    """Why one stage is not what it was.

    Attributes:
        stage: its name.
        status: "cached", "to run" or "waits".
        against: the attempt that it is compared with; None where there is none.
        differences: from that attempt, in full. Inputs that have yet to be computed are among them.
        note: what there is to say where nothing of its own differs, or there is nothing to compare
            with; else None.
        trouble: what became of a newer attempt that did not complete, or None.
        waits_for: stages that have to run just before it where its key is not known yet.
    """

    stage: str
    status: str
    against: Made | None
    differences: tuple[Difference, ...]
    note: str | None
    trouble: str | None
    waits_for: tuple[str, ...]

    @property
    def own(self) -> tuple[Difference, ...]:
        """What differs in the stage itself."""
        return tuple(one for one in self.differences if one.kind != "input")

    @property
    def rewired(self) -> tuple[Difference, ...]:
        """Inputs that it did not have, or has no more, or has from another stage."""
        return tuple(one for one in self.differences if one.is_rewired)


@dataclass(frozen=True)
class RootCause:
    """Where a chain of changes begins: what differs, and in which stages."""

    what: str
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """Everything about one stage.

    Attributes:
        stage: as surveyed.
        recipe: the recipe whose attempt filled the cache, where it is cached and known.
        reasons: of the stage itself, then of the stages that its changed inputs come from, nearest
            first; empty where it is cached.
        causes: where the changes begin.
    """

    stage: SurveyedStage
    recipe: str | None
    reasons: tuple[Reasons, ...]
    causes: tuple[RootCause, ...]


def explain(request: Request, stage: str) -> Explanation:
    """Why `stage` is not cached, or by which attempt it is. Computes and writes nothing.

    Raises:
        ValueError: where the recipe has no such stage.
    """
    # Before anything is verified, which takes long where artifacts are large.
    check_stage(request, stage)
    stages = survey(request)
    return explanation(stages[stage], stages, request.recipe.name, request.home)


def explanation(stage: SurveyedStage, stages: Survey, recipe: str, home: Path) -> Explanation:
    """The explanation of a surveyed stage."""
    if stage.status == CACHED:
        return Explanation(stage, recipe_of(stage, home), (), ())
    reasons = _chain(stage, stages, recipe, home)
    return Explanation(stage, None, reasons, _causes(reasons))


def _chain(stage: SurveyedStage, stages: Survey, recipe: str, home: Path) -> tuple[Reasons, ...]:
    """The stage's reasons and those of the stages upstream that explain them, each once."""
    found: dict[str, Reasons] = {}
    waiting: list[tuple[str, Made | None]] = [(stage.name, basis(stage, recipe))]
    while waiting:
        name, against = waiting.pop(0)
        if name in found:
            continue
        here = reasons_of(stages[name], against, stages, recipe, home)
        found[name] = here
        followed: set[str] = set()
        for one in here.differences:
            if one.kind != "input" or one.stage is None:
                continue
            made = maker(one.before, stages, home) if one.before else None
            upstream = stages[one.stage]
            if one.is_rewired:
                made = None
            if made is None and upstream.status == CACHED:
                # Another stage's artifact, or that of an attempt of which nothing is left.
                continue
            followed.add(one.stage)
            waiting.append((one.stage, made or basis(upstream, recipe)))
        waiting += [
            (missing, basis(stages[missing], recipe))
            for missing in stages[name].waits_for
            if missing not in followed
        ]
    # Nearest first is against the order of the method.
    order = list(stages)
    return tuple(sorted(found.values(), key=lambda one: order.index(one.stage), reverse=True))


def reasons_of(
    stage: SurveyedStage, against: Made | None, stages: Survey, recipe: str, home: Path
) -> Reasons:
    """What differs between a stage now and an attempt of it."""
    found: tuple[Difference, ...] = ()
    if against is not None:
        found = differences(
            against.components, stage.components, against.parts, stage.parts, stage.inputs
        )
        found = tuple(_with_origin(one, stages, home) for one in found)
    return Reasons(
        stage.name,
        stage.status,
        against,
        found,
        _note(stage, against, found),
        newest_trouble(stage, recipe, home),
        nearest(stage.waits_for, stages),
    )


def _with_origin(one: Difference, stages: Survey, home: Path) -> Difference:
    """An input's difference with the stage that the input came from before."""
    if one.kind != "input" or one.before is None:
        return one
    made = maker(one.before, stages, home)
    return one if made is None else replace(one, stage_before=made.stage)


def _note(stage: SurveyedStage, against: Made | None, found: tuple[Difference, ...]) -> str | None:
    if stage.problem is not None:
        return stage.problem
    if against is None:
        return NEVER if not stage.attempts else "never completed"
    if found or stage.status == WAITS:
        return None
    if stage.status == TO_RUN:
        return "nothing differs, but its record was removed"
    assert stage.record is not None
    return (
        f"nothing differs, but attempt {stage.record.attempt} came out "
        f"different from attempt {against.number}"
    )


def _causes(reasons: tuple[Reasons, ...]) -> tuple[RootCause, ...]:
    """Own changes of any stage of the chain, roots first."""
    causes: dict[str, list[str]] = {}
    for one in reversed(reasons):
        lines = [difference.line for difference in (*one.own, *one.rewired)]
        # A stage that waits and was never run says nothing of its own: what it waits for does.
        if one.note is not None and one.status != WAITS:
            lines.append(one.note)
        for line in lines:
            causes.setdefault(line, []).append(one.stage)
    return tuple(RootCause(what, tuple(stages)) for what, stages in causes.items())


def as_document(explained: Explanation, recipe: str) -> dict[str, Any]:
    """The explanation as JSON-able values."""
    stage = explained.stage
    return {
        "recipe": recipe,
        "stage": stage.name,
        "status": stage.status,
        "key": stage.key,
        "computed_by": _computed_by(explained),
        "waits_for": list(explained.reasons[0].waits_for) if explained.reasons else [],
        "reasons": [_reasons(one) for one in explained.reasons],
        "root_causes": [{"stages": list(one.stages), "what": one.what} for one in explained.causes],
    }


def _computed_by(explained: Explanation) -> Mapping[str, Any] | None:
    record = explained.stage.record
    if record is None:
        return None
    return {
        "attempt": record.attempt,
        "recipe": explained.recipe,
        "finished": record.finished_at,
        "seconds": record.seconds,
        "artifact": record.artifact,
        "mlflow_run_id": record.mlflow_run_id,
    }


def _reasons(one: Reasons) -> dict[str, Any]:
    made = one.against
    compared = None
    if made is not None:
        compared = {
            "attempt": made.number,
            "recipe": made.recipe,
            "finished": made.finished,
            "key": made.key,
        }
    return {
        "stage": one.stage,
        "status": one.status,
        "compared_with": compared,
        "differences": [
            {
                "kind": difference.kind,
                "name": difference.name,
                "part": difference.part,
                "before": difference.before,
                "now": difference.now,
                "stage": difference.stage,
                "stage_before": difference.stage_before,
            }
            for difference in one.differences
        ],
        "note": one.note,
        "newest_attempt": one.trouble,
        "waits_for": list(one.waits_for),
    }
