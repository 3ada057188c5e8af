"""What differs between the components of two stage keys: fields, functions, inputs, versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.recipes.changes import flat

Parts = Mapping[str, Mapping[str, str]]

DIGEST = 64
ORDER = "order of its parts"


@dataclass(frozen=True)
class Difference:
    """One thing that differs.

    Attributes:
        kind: "config", "source", "input", "libraries" or "numerics".
        name: the field with dots, the source file, the role of the input, the library.
        part: of a source file: the function, `Class.method` or assigned name; else None.
        before: the value that was used; None where there was none.
        now: the value that would be used; None where there is none, or an input has yet to be
            computed. Of sources: digests of the code.
        stage: of an input: the stage that it comes from now; else None.
        stage_before: of an input: the stage that it came from, where that is known; else None.
    """

    kind: str
    name: str
    part: str | None
    before: Any
    now: Any
    stage: str | None = None
    stage_before: str | None = None

    @property
    def is_rewired(self) -> bool:
        """Whether it is an input that was not there, is no more, or comes from another stage."""
        if self.kind != "input":
            return False
        moved = self.stage_before is not None and self.stage_before != self.stage
        return self.before is None or self.stage is None or moved

    @property
    def change(self) -> str:
        """The two values, or what happened, in a few words."""
        if self.kind in ("source", "input"):
            if self.before is None:
                return "added"
            if self.stage is None if self.kind == "input" else self.now is None:
                return "removed"
            if self.is_rewired:
                return f"comes from stage {self.stage}, came from stage {self.stage_before}"
            return "changed"
        return f"{shown(self.before)} -> {shown(self.now)}"

    @property
    def line(self) -> str:
        """The difference in one line."""
        if self.kind == "source":
            return f"{self.name}{': ' + self.part if self.part else ''} {self.change}"
        if self.kind == "input":
            return f"input {self.name} {self.change}"
        return f"{self.kind}.{self.name} {self.change}"


def shown(value: Any) -> str:
    """A value as people read it; digests are cut."""
    if value is None:
        return "none"
    if isinstance(value, str) and len(value) == DIGEST and not set(value) - set("0123456789abcdef"):
        return value[:12]
    return str(value)


def differences(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    parts_before: Parts | None,
    parts_now: Parts,
    stages: Mapping[str, str],
) -> tuple[Difference, ...]:
    """What differs between the components of two keys of one stage.

    Args:
        before, now: see `Stage.components`; an input may be None, not yet computed, and is then
            listed as if it differed.
        parts_before: module -> part -> digest; None where nobody noted them.
        parts_now: likewise.
        stages: role of an input -> the stage that it comes from now.
    """
    found = _fields("config", before, now)
    found += _source(before["source"], now["source"], parts_before, parts_now)
    roles = {**before["inputs"], **now["inputs"]}
    for role in roles:
        digests = before["inputs"].get(role), now["inputs"].get(role)
        if digests[0] != digests[1]:
            found.append(Difference("input", role, None, *digests, stages.get(role)))
    found += _fields("libraries", before, now)
    found += _fields("numerics", before, now)
    return tuple(found)


def _fields(kind: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    old, new = flat(before[kind]), flat(now[kind])
    return [
        Difference(kind, name, None, old.get(name), new.get(name))
        for name in {**old, **new}
        if (name in old) != (name in new) or old.get(name) != new.get(name)
    ]


def _source(
    before: Mapping[str, str],
    now: Mapping[str, str],
    parts_before: Parts | None,
    parts_now: Parts,
) -> list[Difference]:
    found = []
    for module in sorted({**before, **now}):
        old, new = before.get(module), now.get(module)
        if old == new:
            continue
        file = source_file(module, now)
        if old is None or new is None or parts_before is None or module not in parts_before:
            found.append(Difference("source", file, None, old, new))
            continue
        old_parts, new_parts = parts_before[module], parts_now[module]
        changed = [
            Difference("source", file, part, old_parts.get(part), new_parts.get(part))
            for part in sorted({**old_parts, **new_parts})
            if old_parts.get(part) != new_parts.get(part)
        ]
        # The same parts in another order.
        found += changed or [Difference("source", file, ORDER, old, new)]
    return found


def source_file(module: str, modules: Mapping[str, str]) -> str:
    """The file of a module as people know it: a module that holds others is a folder."""
    path = module.replace(".", "/")
    package = any(other.startswith(f"{module}.") for other in modules)
    return f"{path}/__init__.py" if package else f"{path}.py"
