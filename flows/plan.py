"""What a run would do: each stage with its key, and whether and why it has to be computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.method import method
from flows.request import Request
from flows.stages import numerics_of, stage_of
from tasks.records import attempts, inspect_record
from tasks.stage_key import key_components, stage_key


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a plan.

    Attributes:
        name: of the stage.
        key: its stage key, or None where an input has yet to be computed.
        status: "cached", "to run" or "waits".
        reason: why it is not cached; "" where it is.
        seconds: how long the attempt took that filled the cache, or None.
    """

    name: str
    key: str | None
    status: str
    reason: str
    seconds: float | None


def plan(request: Request) -> tuple[PlannedStage, ...]:
    """The stages of a recipe with their state; computes and writes nothing."""
    numerics = numerics_of(request.recipe)
    artifacts: dict[str, str] = {}
    planned = []
    for node in method(request):
        missing = [name for name in node.inputs.values() if name not in artifacts]
        if missing:
            reason = f"its key follows from {', '.join(dict.fromkeys(missing))}"
            planned.append(PlannedStage(node.name, None, "waits", reason, None))
            continue
        stage = stage_of(node, artifacts, numerics)
        key = stage_key(stage)
        record, problem = inspect_record(request.home, key)
        if record is not None:
            artifacts[node.name] = record.artifact
            planned.append(PlannedStage(node.name, key, "cached", "", record.seconds))
            continue
        reason = problem or why_not(key_components(stage), attempts(request.home, node.name))
        planned.append(PlannedStage(node.name, key, "to run", reason, None))
    return tuple(planned)


def why_not(components: dict[str, Any], made: list[dict[str, Any]]) -> str:
    """What differs from the last completed attempt, in one line."""
    completed = [record for record in made if record["status"] == "completed"]
    if not completed:
        return "never run" if not made else f"last attempt {made[-1]['status']}"
    before = flat(completed[-1]["components"])
    now = flat(components)
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if not names:
        return "its record was removed"
    shown = [f"{name} {before.get(name)} -> {now.get(name)}" for name in names[:3]]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return "differs from the last attempt: " + "; ".join(shown) + more


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested components as dotted names -> short text."""
    if isinstance(value, dict):
        found: dict[str, str] = {}
        for name, item in value.items():
            found |= flat(item, f"{prefix}.{name}" if prefix else str(name))
        return found
    text = str(value)
    return {prefix: text[:12] if len(text) == 64 else text}
