"""Changes of single fields: `a.b=c` as people type them, and dotted field -> value."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from flows.recipes.files import read_text
from tasks.host.wording import shortened

_FIELD = re.compile("[a-z0-9_]+")
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
        except DuplicateKeyError as error:
            raise ValueError(f"--set {field} must have each key once, got {text!r}") from error
        except YAMLError:
            fields[field] = text
        except ValueError as error:
            got = f"{shortened(text)}: {error}"
            raise ValueError(f"--set {field} must be a value of YAML, got {got}") from None
    return fields


def texts_of(fields: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """The texts that `fields_of` reads as these fields, which may be nested.

    A map of names that somebody has chosen, such as those of classes, stays one value.
    """
    texts: list[str] = []
    for field, value in fields.items():
        if isinstance(value, Mapping) and value and all(map(_FIELD.fullmatch, map(str, value))):
            texts += texts_of(value, f"{prefix}{field}.")
        else:
            texts.append(f"{prefix}{field}={json.dumps(value, ensure_ascii=False)}")
    return tuple(texts)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values as dotted names -> value."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, item in value.items():
        found |= flat(item, f"{prefix}.{name}" if prefix else str(name))
    return found


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
        target[last] = merged(target.get(last), value)
    return result


def merged(base: Any, changes: Any) -> Any:
    """`base` with the fields of `changes`, section by section; what is no section is replaced."""
    if not (isinstance(base, dict) and isinstance(changes, Mapping)):
        return changes
    return base | {name: merged(base.get(name), value) for name, value in changes.items()}


def check_writable(values: Any, field: str = "") -> None:
    """Refuse texts that no file can hold, and no path may have.

    Args:
        values: nested.
        field: the dotted name of these.

    Raises:
        ValueError: naming the field.
    """
    if isinstance(values, dict):
        for name, value in values.items():
            check_writable(str(name), field or "recipe")
            check_writable(value, f"{field}.{name}" if field else str(name))
    elif isinstance(values, list | tuple):
        for value in values:
            check_writable(value, field)
    elif isinstance(values, str) and re.search("[\0\ud800-\udfff]", values):
        raise ValueError(f"{field} must be text without NUL and halves of letters, got {values!r}")
