"""Plans and explanations for people, on stdout."""

from __future__ import annotations

from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from flows.engine.cuts import cut_rows
from flows.planning.differences import Difference, shown
from flows.planning.explain import NEVER, Explanation, Reasons
from flows.planning.plan import Plan
from flows.planning.stage_states import CACHED, TO_RUN, WAITS
from flows.recipes.request import Request
from rosita_core.data.sharing import shared
from tasks.host.console import console
from tasks.host.wording import duration, listed, when

COLOURS = {CACHED: "green", TO_RUN: "yellow"}


def show_plan(request: Request, plan: Plan, total: str) -> None:
    """The stages with key, state and reason, how much there is to do, and notes on the rows."""
    table = Table(
        title=f"{request.recipe.name}: {request.teacher} -> {request.goal}", title_justify="left"
    )
    for name in ("stage", "key", "state"):
        table.add_column(name, no_wrap=True)
    table.add_column("why", overflow="fold")
    for stage in plan.stages:
        key = stage.key[:12] if stage.key else "-"
        why = stage.reason or f"took {duration(stage.seconds or 0)}"
        state = Text(stage.status, style=COLOURS.get(stage.status, ""))
        table.add_row(stage.name, key, state, Text(why))
    out = console()
    out.print(table)
    for note in request.notes:
        out.print(Text(note))
    out.print(Text(total))
    for kept in plan.keeping:
        out.print(Text(kept.line))
    for note in (*shared(plan.rows.counts), *cut_rows([asdict(cut) for cut in plan.rows.cuts])):
        out.print(Text(note))
    if first := next((stage.name for stage in plan.stages if stage.status == TO_RUN), None):
        out.print(Text(f"rosita explain {first} says more about a stage."), style="dim")


def show_explanation(explained: Explanation, recipe: str) -> None:
    """A stage's state, the tables of what differs, and where it begins."""
    stage, out = explained.stage, console()
    state = Text(stage.status, style=COLOURS.get(stage.status, ""))
    out.print(Text.assemble((stage.name, "bold"), " of recipe ", recipe, ": ", state))
    if stage.record is not None:
        record = stage.record
        whose = "" if explained.recipe is None else f" of recipe {explained.recipe}"
        out.print(
            f"computed by attempt {record.attempt}{whose}, {when(record.finished_at)}, "
            f"in {duration(record.seconds)}"
        )
        out.print(f"key {stage.key}", f"artifact {record.artifact}", sep="\n", soft_wrap=True)
        return
    if stage.key is not None:
        out.print(f"key {stage.key}", soft_wrap=True)
    for reasons in explained.reasons:
        asked = reasons.stage == stage.name
        silent = reasons.status == WAITS and not reasons.differences and reasons.trouble is None
        if silent and not asked:
            continue
        out.print()
        _show_reasons(reasons, asked)
    out.print()
    if not explained.causes:
        out.print(Text("Nothing else is known to differ."))
        return
    out.print(Text("root cause" if len(explained.causes) == 1 else "root causes", style="bold"))
    for cause in explained.causes:
        out.print(Text(f"  {listed(cause.stages)}: {cause.what}"))


def _show_reasons(reasons: Reasons, asked: bool) -> None:
    out = console()
    lines = []
    if reasons.against is not None:
        lines.append(f"compared with {reasons.against.line}")
    if reasons.waits_for:
        lines.append(f"waits for {listed(reasons.waits_for)}")
    if reasons.note is not None:
        lines.append(reasons.note)
    if reasons.trouble is not None and reasons.note != NEVER:
        lines.append(reasons.trouble)
    if not reasons.differences and not reasons.note and not reasons.waits_for:
        lines.append("nothing differs")
    name = reasons.stage if asked else f"{reasons.stage} ({reasons.status})"
    out.print(Text.assemble((name, "bold"), ": ", "; ".join(lines)))
    if not reasons.differences:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=True)
    table.add_column("part", no_wrap=True)
    for title in ("what", "then", "now"):
        table.add_column(title, overflow="fold")
    for one in reasons.differences:
        table.add_row(*_row(one))
    out.print(table)


def _row(one: Difference) -> tuple[Text, Text, Text, Text]:
    kind, name, then, now = one.kind, one.name, shown(one.before), shown(one.now)
    if one.kind == "source":
        name = one.name if one.part is None else f"{one.name}\n{one.part}"
        then, now = ("-", "added") if one.before is None else ("", one.change)
    if one.kind == "input":
        came = one.stage_before
        then = "-" if one.before is None else f"{shown(one.before)}{f' of {came}' if came else ''}"
        now = "not computed yet" if one.now is None else shown(one.now)
        now = "-" if one.stage is None else f"{now} of {one.stage}"
        if one.now is None and one.stage is not None:
            now = f"{one.stage} has to run first"
    return Text(kind), Text(name), Text(then), Text(now)
