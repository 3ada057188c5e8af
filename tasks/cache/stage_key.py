"""The stage key: the digest that decides whether a stage has to run.

It covers what can change the result and nothing else: the stage's name, its config, the digests of
its inputs, the code that computes it, the libraries that this code uses, and numerics. Paths,
labels, thread counts and device numbers are outside it.
"""

import dataclasses
import importlib.metadata
import math
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache
from typing import Any

from tasks.cache.source_closure import Closure, source_closure
from tasks.store.artifacts import json_digest

PROCESSES = "processes"
NUMERICS = ("deterministic", "device", "precision", "hardware")
CORE = "rosita_core"
COMPUTES = "torch"
"""A stage whose code does not import it has no numerics."""
LIBRARIES = {
    "torch": ("torch",),
    # What it cuts texts with, and writes weights with.
    "transformers": ("transformers", "tokenizers", "safetensors"),
    "tokenizers": ("tokenizers",),
    "safetensors": ("safetensors",),
    "numpy": ("numpy",),
    "scipy": ("scipy",),
    "sklearn": ("scikit-learn",),
    "pandas": ("pandas",),
    "pyarrow": ("pyarrow",),
    "datasets": ("datasets",),
    "huggingface_hub": ("huggingface-hub",),
    # What writes a graph for it.
    "onnx": ("onnx", "onnxscript"),
    "onnxruntime": ("onnxruntime",),
}
"""What code imports -> the libraries that decide its numbers, or the bytes that it writes."""


@dataclass(frozen=True)
class Stage:
    """One node of the DAG, with everything that decides its result."""

    name: str
    """The stage's name, as `rosita plan` shows it."""
    code: tuple[str, ...]
    """The modules that compute it: of its kernel and of its task."""
    config: Any
    """The kernel's settings: a frozen dataclass. A field with the metadata `{"in_key": False}`
    cannot change the result and stays outside the key."""
    inputs: dict[str, str | None]
    """Role of an input -> digest of its artifact; None for one that has yet to be computed."""
    numerics: dict[str, Any]
    """`device`, `precision`, `deterministic` and `hardware` (the CPU's capability or the GPU's
    kind), and of a training in several `processes` their number; others stay outside the key."""

    @cached_property
    def closure(self) -> Closure:
        """Its code: of its kernel, its task and the plug-ins in its config."""
        return source_closure((*self.code, *config_modules(self.config)))

    @cached_property
    def components(self) -> dict[str, Any]:
        """Everything that the key is made of, as JSON-able values to be compared one by one.

        Keys: stage, config, inputs, source (module -> digest), libraries (name -> version),
        numerics.

        Raises:
            ValueError: when a config value has no canonical form, or numerics lacks an entry.
        """
        for name in NUMERICS:
            if name not in self.numerics:
                raise ValueError(f"numerics must have {', '.join(NUMERICS)}, got no {name}")
        return {
            "stage": self.name,
            "config": canonical_config(self.config),
            "inputs": dict(sorted(self.inputs.items())),
            "source": self.closure.modules,
            "libraries": library_versions(self.closure.packages),
            "numerics": self._numerics() if COMPUTES in self.closure.packages else {},
        }

    @cached_property
    def known_key(self) -> str | None:
        """The stage key; None while an input has yet to be computed."""
        return None if None in self.inputs.values() else json_digest(self.components)

    @property
    def key(self) -> str:
        """The stage key: sha256 (64 hexadecimal digits) of the components' canonical JSON."""
        assert self.known_key is not None, f"an input of {self.name} has yet to be computed"
        return self.known_key

    def _numerics(self) -> dict[str, Any]:
        numerics = {name: self.numerics[name] for name in NUMERICS}
        # cuda:1 computes what cuda:0 does.
        numerics["device"] = str(numerics["device"]).split(":")[0]
        # Gradients would differ in their rounding only, as with threads, but each process draws
        # the dropout of its own rows, which changes the result as another seed does.
        if self.numerics.get(PROCESSES, 1) != 1:
            numerics[PROCESSES] = self.numerics[PROCESSES]
        return numerics


def config_modules(config: Any) -> tuple[str, ...]:
    """The modules of the settings in a config: those of its plug-ins are known by nothing else."""
    found = {type(settings).__module__ for settings in _settings(config)}
    return tuple(sorted(name for name in found if name.partition(".")[0] == CORE))


def _settings(value: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in dataclasses.fields(value):
            yield from _settings(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _settings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _settings(item)


@lru_cache(maxsize=64)
def _version(library: str) -> str:
    # The local part (+cpu, +cu128) names a build of the same version.
    return importlib.metadata.version(library).split("+")[0]


def library_versions(imported: Iterable[str]) -> dict[str, str]:
    """The versions of the libraries that decide numbers, of those that code imports."""
    names = {library for package in imported for library in LIBRARIES.get(package, ())}
    return {name: _version(name) for name in sorted(names)}


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
