"""Changes of single fields: `a.b=c` as people type them, and dotted field -> value."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml.error import YAMLError

from flows.recipes.files import read_text

Changes = Sequence[str] | Mapping[str, Any]
"""Texts such as `width.keep_heads=2`, or dotted field -> value."""


def fields_of(changes: Changes) -> dict[str, Any]:
    """Dotted field -> value; a text's value is read as YAML 1.2.

    Raises:
        ValueError: for a text without a field or without `=`.
    """
    if isinstance(changes, Mapping):
        return {str(field): value for field, value in changes.items()}
    fields: dict[str, Any] = {}
    for change in changes:
        field, equals, text = change.partition("=")
        if not equals or not field:
            raise ValueError(f"--set must be field=value, got {change!r}")
        try:
            fields[field] = read_text(text)
        except YAMLError:
            fields[field] = text
    return fields


def texts_of(fields: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """The texts that `fields_of` reads as these fields, which may be nested."""
    texts: list[str] = []
    for field, value in fields.items():
        if isinstance(value, Mapping) and value:
            texts += texts_of(value, f"{prefix}{field}.")
        else:
            texts.append(f"{prefix}{field}={json.dumps(value)}")
    return tuple(texts)


def applied(values: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested values with others in some dotted fields.

    Raises:
        ValueError: for a field inside something that has none.
    """
    result = copy.deepcopy(dict(values))
    for path, value in fields.items():
        *parents, last = path.split(".")
        target = result
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise ValueError(f"{path} must be a field of a recipe, got {parent} without fields")
        target[last] = value
    return result
