"""The stage key: the digest that decides whether a stage has to run.

It covers what can change the result and nothing else: the stage's name, its config, the digests of
its inputs, the code of its kernel, the libraries that decide numbers, and numerics. Paths, labels,
thread counts and device numbers are outside it. The number of processes of a training is inside:
gradients would differ in their rounding only, as with threads, but each process draws the dropout
of its own rows, which changes the result as another seed does. One process is not named, so that
the keys of trainings by one are what they always were.
"""

import dataclasses
import importlib.metadata
import math
import types
import typing
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from tasks.cache.source_closure import source_modules
from tasks.store.artifacts import json_digest

PROCESSES = "processes"
LIBRARIES = ("torch", "transformers", "tokenizers")
NUMERICS = ("deterministic", "device", "precision")


@dataclass(frozen=True)
class Stage:
    """One node of the DAG, with everything that decides its result."""

    name: str
    """The stage's name, as `rosita plan` shows it."""
    kernel: str
    """The module of the kernel, for example `rosita_core.stages.teacher`."""
    config: Any
    """The kernel's settings: a frozen dataclass. A field with the metadata `{"in_key": False}`
    cannot change the result and stays outside the key."""
    inputs: dict[str, str]
    """Role of an input -> digest of its artifact."""
    numerics: dict[str, Any]
    """`device`, `precision` and `deterministic`, and of a training in several `processes` their
    number; other entries stay outside the key."""


def key_components(stage: Stage) -> dict[str, Any]:
    """Everything that the key is made of, as JSON-able values that can be compared one by one.

    Keys: stage, config, inputs, source (module -> digest), libraries (name -> version), numerics.
    Raises ValueError when a config value has no canonical form, or numerics lacks an entry.
    """
    for name in NUMERICS:
        if name not in stage.numerics:
            raise ValueError(f"numerics must have {', '.join(NUMERICS)}, got no {name}")
    numerics = {name: stage.numerics[name] for name in NUMERICS}
    # cuda:1 computes what cuda:0 does.
    numerics["device"] = str(numerics["device"]).split(":")[0]
    if stage.numerics.get(PROCESSES, 1) != 1:
        numerics[PROCESSES] = stage.numerics[PROCESSES]
    return {
        "stage": stage.name,
        "config": canonical_config(stage.config),
        "inputs": dict(sorted(stage.inputs.items())),
        "source": source_modules(stage.kernel),
        "libraries": library_versions(),
        "numerics": numerics,
    }


def stage_key(stage: Stage) -> str:
    """The key of a stage: sha256 (64 hexadecimal digits) of its components' canonical JSON."""
    return json_digest(key_components(stage))


@lru_cache(maxsize=1)
def _library_versions() -> tuple[tuple[str, str], ...]:
    # The local part (+cpu, +cu128) names a build of the same version.
    return tuple((name, importlib.metadata.version(name).split("+")[0]) for name in LIBRARIES)


def library_versions() -> dict[str, str]:
    """The versions of the libraries that decide numbers, without the suffix of a build."""
    return dict(_library_versions())


def canonical_config(config: Any) -> dict[str, Any]:
    """A frozen dataclass as JSON-able values that do not depend on how it was written.

    A field annotated float is a float, however its value was given (1 and 1.0, 2e-5 and 0.00002);
    tuples are lists; an Enum is its value. Where a field's annotation is not the dataclass of its
    value (a Protocol, a union, Any), the name of the class is added as `kind`.

    Raises ValueError naming the field when a value is not finite or has no canonical form.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ValueError(f"config must be a frozen dataclass, got {type(config).__name__}")
    return _dataclass(config, "config")


def _dataclass(value: Any, where: str) -> dict[str, Any]:
    annotations = typing.get_type_hints(type(value))
    return {
        field.name: _canonical(
            getattr(value, field.name), annotations[field.name], f"{where}.{field.name}"
        )
        for field in dataclasses.fields(value)
        if field.metadata.get("in_key", True)
    }


def _canonical(value: Any, annotation: Any, where: str) -> Any:
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return _number(value, annotation, where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = _dataclass(value, where)
        return plain if annotation is type(value) else {"kind": type(value).__name__, **plain}
    if isinstance(value, list | tuple):
        return [
            _canonical(item, _item_annotation(annotation, index), f"{where}[{index}]")
            for index, item in enumerate(value)
        ]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        held = _arguments(annotation, dict)
        of_values = held[1] if len(held) == 2 else Any
        return {
            name: _canonical(value[name], of_values, f"{where}.{name}") for name in sorted(value)
        }
    raise ValueError(
        f"{where} must be a number, text, None, dataclass, list or dict with text keys, "
        f"got {type(value).__name__}"
    )


def _number(value: float, annotation: Any, where: str) -> int | float:
    members = _members(annotation)
    if isinstance(value, float) or (float in members and int not in members):
        if not math.isfinite(value):
            raise ValueError(f"{where} must be a finite number, got {value}")
        return float(value) + 0.0  # -0.0 is 0.0
    return value


def _members(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _arguments(annotation: Any, *origins: type) -> tuple[Any, ...]:
    """What a container annotation, alone or in a union, says that it holds."""
    for member in _members(annotation):
        if typing.get_origin(member) in origins:
            return typing.get_args(member)
    return ()


def _item_annotation(annotation: Any, index: int) -> Any:
    held = _arguments(annotation, tuple, list)
    if (len(held) == 2 and held[1] is Ellipsis) or len(held) == 1:
        return held[0]
    return held[index] if index < len(held) else Any
