"""The fields of a recipe as a table, read from the schema."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pydantic import BaseModel

from flows.recipes.schema import Recipe
from flows.recipes.validation_errors import COMPARED

WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}
HEADER = ("field", "allowed", "default", "what")
PREAMBLE = """# Fields of a recipe

Printed by `rosita recipes --fields` from `flows/recipes/schema.py`; with `--json` for programs. A
field is changed by `--set width.keep_heads=2`, in a recipe file, or by `changes` of `flows.api`.
Where there is no default, every recipe says its own: `rosita recipes NAME` prints them.
"""


@dataclass(frozen=True)
class FieldRow:
    """A field of a recipe.

    Attributes:
        name: as `--set` takes it.
        allowed: its type and bounds, in words.
        required: whether every recipe has to say its own value.
        default: otherwise, what it is where nobody says.
        description: what it means.
    """

    name: str
    allowed: str
    required: bool
    default: Any
    description: str


def field_rows(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[FieldRow]:
    """Every field: those of a section in the order of the schema, then those of its sections."""
    inner: dict[str, type[BaseModel]] = {}
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            inner[name] = kind
            continue
        required = field.is_required()
        default = None if required else field.default
        allowed = ", ".join([_kind(kind), *_bounds(kind), *_limits(field.metadata)])
        yield FieldRow(f"{prefix}{name}", allowed, required, default, field.description or "")
    for name, kind in inner.items():
        yield from field_rows(kind, f"{prefix}{name}.")


def fields_page() -> str:
    """The fields as Markdown, a table per section."""
    lines = [PREAMBLE]
    for section, rows in groupby(field_rows(), lambda row: row.name.rpartition(".")[0]):
        lines += [f"## {section or 'recipe'}", "", _line(HEADER), _line(["---"] * len(HEADER))]
        lines += [_line(_cells(row)) for row in rows]
        lines.append("")
    return "\n".join(lines)


def _cells(row: FieldRow) -> tuple[str, ...]:
    default = "" if row.required else f"`{_written(row.default)}`"
    # Outside of `code` Markdown would take it for a tag, and for the end of a cell.
    what = row.description.replace("<", r"\<").replace("|", r"\|")
    return f"`{row.name}`", row.allowed, default, what


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _written(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def _kind(annotation: Any) -> str:
    """What a type is called."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind(inner[0])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_kind, inner))
    if origin is tuple:
        many = "" if typing.get_origin(inner[0]) is typing.Literal else "s"
        return f"list of {_kind(inner[0])}{many}"
    if origin is dict:
        return f"map of {_kind(inner[0])} to {_kind(inner[1])}"
    return "none" if annotation is type(None) else WORDS[annotation]


def _bounds(annotation: Any) -> list[str]:
    """The bounds that are parts of a type."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _bounds(inner[0]) + _limits(inner[1:])
    if origin is tuple:
        return [f"each {bound}" for bound in _bounds(inner[0])]
    if origin in (typing.Union, types.UnionType):
        return [bound for member in inner for bound in _bounds(member)]
    return []


def _limits(metadata: Iterable[Any]) -> list[str]:
    """The bounds in pieces of metadata, some of which are whole fields."""
    found: list[str] = []
    for item in metadata:
        found += _limits(getattr(item, "metadata", ()))
        found += [
            f"{words} {getattr(item, name):,}"
            for words, name in COMPARED.values()
            if hasattr(item, name)
        ]
        if hasattr(item, "min_length"):
            entries = "entry" if item.min_length == 1 else "entries"
            found.append(f"at least {item.min_length} {entries}")
        if hasattr(item, "max_length"):
            found.append(f"at most {item.max_length} letters")
    return found
