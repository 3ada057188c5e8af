"""Changes of single fields: `a.b=c` as people type them, and dotted field -> value."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from flows.recipes.files import read_text
from flows.recipes.schema import SECTIONS
from tasks.host.wording import shortened

Changes = Sequence[str] | Mapping[str, Any]
"""Texts such as `width.keep_heads=2`, or dotted field -> value."""


def fields_of(changes: Changes) -> dict[str, Any]:
    """Dotted field -> value; a text's value is read as YAML 1.2, a section is its fields.

    Raises:
        ValueError: for a text without a field or without `=`.
    """
    if isinstance(changes, Mapping):
        return dotted(changes)
    fields: dict[str, Any] = {}
    for change in changes:
        field, equals, text = change.partition("=")
        if not equals or not field:
            raise ValueError(f"--set must be field=value, got {change!r}")
        try:
            fields[field] = read_text(text)
        except DuplicateKeyError as error:
            raise ValueError(f"--set {field} must have each key once, got {text!r}") from error
        except YAMLError:
            fields[field] = text
        except ValueError as error:
            got = f"{shortened(text)}: {error}"
            raise ValueError(f"--set {field} must be a value of YAML, got {got}") from None
        # What comes later counts, field by field.
        fields |= dotted({field: fields.pop(field)})
    return fields


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted field -> value of fields that may be given as sections of fields."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        field = f"{prefix}{name}"
        if isinstance(value, Mapping) and field in SECTIONS:
            found |= dotted(value, f"{field}.")
        else:
            found[field] = value
    return found


def texts_of(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts that `fields_of` reads as these fields, which may be nested."""
    return tuple(
        f"{field}={json.dumps(value, ensure_ascii=False)}"
        for field, value in dotted(fields).items()
    )


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values as dotted names -> value."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, item in value.items():
        found |= flat(item, f"{prefix}.{name}" if prefix else str(name))
    return found


def applied(values: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested values with others in some fields, dotted or in sections.

    Raises:
        ValueError: for a field inside something that has none.
    """
    result = copy.deepcopy(dict(values))
    for path, value in dotted(fields).items():
        *parents, last = path.split(".")
        target = result
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise ValueError(f"{path} must be a field of a recipe, got {parent} without fields")
        target[last] = value
    return result


def merged(base: Any, changes: Any, field: str = "") -> Any:
    """`base` with the fields of `changes`, section by section; what is no section is replaced."""
    if not (isinstance(changes, Mapping) and (not field or field in SECTIONS)):
        return changes
    inside = f"{field}." if field else ""
    base = base if isinstance(base, dict) else {}
    return base | {
        name: merged(base.get(name), value, f"{inside}{name}") for name, value in changes.items()
    }
