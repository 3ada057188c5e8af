"""Plug-ins: one file of a room holds one class, found by its name and imported where it is used.

A room is a package such as `compression.criteria`. A file of it is a plug-in where it defines a
class of the file's own name: `taylor.py` has `Taylor`, `hugging_face.py` has `HuggingFace`. The
class is a frozen dataclass, its fields are its own settings, and it has the methods of the room's
Protocol. On the outside, in recipes, names have hyphens: `hugging-face`.

Nothing here imports torch, and `names` imports no plug-in, so that a recipe can be checked quickly.
Kernels never import a plug-in: whoever makes a kernel's settings loads it by name, and the settings
hold it. So a new plug-in changes the stage key of no stage that does not use it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any


def names(room: str) -> tuple[str, ...]:
    """The plug-ins of a room, sorted: `names("distillation.objectives")`."""
    folder = Path(__file__).parent.joinpath(*room.split("."))
    found = (path for path in folder.glob("*.py") if _defines(path, _class_name(path.stem)))
    return tuple(sorted(path.stem.replace("_", "-") for path in found))


def load(room: str, name: str) -> type[Any]:
    """The class of a plug-in: `load("export", "hugging-face")` is `HuggingFace`.

    Raises:
        ValueError: naming the choices, where the room has no such plug-in.
    """
    if name not in names(room):
        kind = room.rpartition(".")[2]
        raise ValueError(f"{kind} must be one of {', '.join(names(room))}, got {name!r}")
    stem = name.replace("-", "_")
    found: type[Any] = getattr(import_module(f"rosita_core.{room}.{stem}"), _class_name(stem))
    return found


def make(room: str, name: str, **offered: Any) -> Any:
    """A plug-in with those of the offered values that it has fields for.

    A criterion that draws takes the `seed` that is offered to all of them; others leave it.

    Raises:
        ValueError: where there is no such plug-in, or it needs a value that is not offered.
    """
    kind = load(room, name)
    return kind(**_wanted(kind, offered))


def _wanted(kind: type[Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    missing = [field.name for field in fields(kind) if field.name not in offered]
    if missing:
        raise ValueError(
            f"settings of {kind.__name__} must be among {', '.join(offered) or 'none'}, "
            f"got {missing[0]}"
        )
    return {field.name: offered[field.name] for field in fields(kind)}


def _class_name(stem: str) -> str:
    return "".join(part.capitalize() for part in stem.split("_"))


def _defines(path: Path, name: str) -> bool:
    return bool(re.search(rf"^class {name}\b", path.read_text(encoding="utf-8"), re.MULTILINE))
