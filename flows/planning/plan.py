"""What a run would do: each stage with its key, and whether and why it has to be computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.engine.graph import graph_of
from flows.planning.attempts import basis, maker
from flows.planning.differences import Difference
from flows.planning.estimates import Estimator
from flows.planning.explain import NEVER, Reasons, reasons_of
from flows.planning.keeping import Keeping, keeping
from flows.planning.rows import KnownRows, known_rows
from flows.planning.stage_states import CACHED, Survey, SurveyedStage, first_to_run, nearest, survey
from flows.recipes.request import Request
from tasks.host.wording import duration, listed

SHOWN = 3


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a plan.

    Attributes:
        name: of the stage.
        key: its stage key, or None where an input has yet to be computed.
        status: "cached", "to run" or "waits".
        reason: why it is not cached; "" where it is.
        seconds: how long the attempt took that filled the cache, or None.
        waits_for: the stages that have to run just before it where its key is not known yet.
        estimated_seconds: how long it will take, by an attempt on the same model and such rows;
            None where there was none, or it is cached.
    """

    name: str
    key: str | None
    status: str
    reason: str
    seconds: float | None
    waits_for: tuple[str, ...]
    estimated_seconds: float | None


@dataclass(frozen=True)
class Plan:
    """The stages of a recipe with their state, and what is known of its rows.

    Attributes:
        stages: in the order of the method.
        rows: what is known of them.
        keeping: how much of teachers' outputs is kept.
    """

    stages: tuple[PlannedStage, ...]
    rows: KnownRows
    keeping: tuple[Keeping, ...]


def plan(request: Request) -> Plan:
    """What a run of the recipe would do; computes and writes nothing."""
    stages = survey(request)
    graph = graph_of({request.recipe.name: request})
    ids = graph.cells[request.recipe.name]
    done = {ids[one.name]: one.record for one in stages.values() if one.record is not None}
    estimator = Estimator(request.home)

    def seconds(stage: SurveyedStage) -> float | None:
        return estimator.of(graph.vertices[ids[stage.name]], done).seconds

    rows = known_rows(request, stages["data"].record)
    kept = (keeping(graph.vertices[ids[name]], done, rows.lengths.get("train")) for name in stages)
    return Plan(
        tuple(_planned(stage, stages, request, seconds) for stage in stages.values()),
        rows,
        tuple(one for one in kept if one is not None),
    )


def _planned(
    stage: SurveyedStage,
    stages: Survey,
    request: Request,
    seconds: Callable[[SurveyedStage], float | None],
) -> PlannedStage:
    if stage.record is not None:
        return PlannedStage(stage.name, stage.key, CACHED, "", stage.record.seconds, (), None)
    recipe, home = request.recipe.name, request.home
    last = basis(stage, recipe)
    reason = reasons_line(reasons_of(stage, last, stages, recipe, home), stages, recipe, home)
    waits_for = nearest(stage.waits_for, stages)
    return PlannedStage(
        stage.name, stage.key, stage.status, reason, None, waits_for, seconds(stage)
    )


def reasons_line(reasons: Reasons, stages: Survey, recipe: str, home: Path) -> str:
    """The reasons in one line: what `rosita explain` shows in full."""
    said = []
    if reasons.waits_for:
        said.append(_waiting(reasons.waits_for, stages))
    elif reasons.note is not None:
        said.append(reasons.note)
    lines = _by_file((*reasons.own, *reasons.rewired))
    # An input that was computed again and came out different is explained by its own stage.
    for one in reasons.differences:
        if one.kind == "input" and not one.is_rewired and one.now is not None:
            lines.append(f"{one.line} ({_cause_of(one.stage, one.before, stages, recipe, home)})")
    if lines:
        assert reasons.against is not None
        shown = "; ".join(lines[:SHOWN])
        more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        number = reasons.against.number
        other = "" if reasons.against.recipe == recipe else f" of recipe {reasons.against.recipe}"
        said.append(f"differs from attempt {number}{other}: {shown}{more}")
    if reasons.trouble is not None and reasons.note != NEVER:
        said.append(reasons.trouble)
    return "; ".join(said)


def _waiting(waits_for: tuple[str, ...], stages: Survey) -> str:
    """The stages that it waits for, and those before them that will run first."""
    said = f"waits for {listed(waits_for)}"
    before = tuple(name for name in first_to_run(waits_for, stages) if name not in waits_for)
    return f"{said}, because {listed(before)} will run" if before else said


def _by_file(found: tuple[Difference, ...]) -> list[str]:
    """A line per difference, and one per source file."""
    files: dict[str, list[Difference]] = {}
    lines = []
    for one in found:
        if one.kind == "source" and one.part is not None:
            files.setdefault(one.name, []).append(one)
        else:
            lines.append(one.line)
    for name, parts in files.items():
        shown = ", ".join(f"{one.part} {one.change}" for one in parts[:SHOWN])
        more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
        lines.append(f"{name}: {shown}{more}")
    return lines


def _cause_of(
    stage: str | None, before: str | None, stages: Survey, recipe: str, home: Path
) -> str:
    """Why a stage's artifact is not what it was, in a few words."""
    assert stage is not None
    made = maker(before, stages, home) if before else None
    if made is None:
        return f"of stage {stage}"
    reasons = reasons_of(stages[stage], made, stages, recipe, home)
    lines = [one.line for one in reasons.differences] or [reasons.note or ""]
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    return f"stage {stage}: {lines[0]}{more}"


def totals(planned: tuple[PlannedStage, ...]) -> str:
    """How much there is to do, in one line."""
    todo = [stage for stage in planned if stage.status != CACHED]
    counted = f"{len(planned) - len(todo)} cached, {len(todo)} to run"
    known = [one.estimated_seconds for one in todo if one.estimated_seconds is not None]
    if not todo:
        return f"{counted}."
    if not known:
        return f"{counted}; how long they take is not known yet."
    about = f"{counted}: about {duration(sum(known))}"
    unknown = tuple(one.name for one in todo if one.estimated_seconds is None)
    if unknown:
        return f"{about} without {listed(unknown)}, not known yet on this model and such rows."
    return f"{about} by attempts on the same model."
