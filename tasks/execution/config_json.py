"""A kernel's settings as JSON, for a process that computes with the same: no pickle.

Settings are frozen dataclasses that hold numbers, texts, tuples and further settings. Only classes
of `rosita_core` are made from a text.
"""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import Any

PACKAGE = "rosita_core"
CLASS, FIELDS = "class", "fields"


def encoded(value: Any) -> Any:
    """JSON-able values that say which class each dataclass is.

    Example: `Taylor()` is {"class": ["rosita_core.compression.criteria.taylor", "Taylor"],
    "fields": {}}.

    Raises:
        ValueError: for a value that `decoded` would not give back.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [encoded(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        _check(type(value).__module__)
        found = {f.name: encoded(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {CLASS: [type(value).__module__, type(value).__qualname__], FIELDS: found}
    raise ValueError(
        f"settings must be numbers, texts, tuples and dataclasses, got {type(value).__name__}"
    )


def decoded(value: Any) -> Any:
    """What `encoded` was given.

    Raises:
        ValueError: where a class is not a dataclass of `rosita_core`.
    """
    if isinstance(value, list):
        return tuple(decoded(item) for item in value)
    if not isinstance(value, dict):
        return value
    module, name = value[CLASS]
    _check(module)
    kind = getattr(import_module(module), name, None)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise ValueError(f"class of settings must be a dataclass, got {module}.{name}")
    return kind(**{field: decoded(item) for field, item in value[FIELDS].items()})


def _check(module: str) -> None:
    if module.split(".")[0] != PACKAGE:
        raise ValueError(f"class of settings must be one of {PACKAGE}, got one of {module}")
