"""Recipes and grids as files: YAML 1.2, JSON or TOML, read strictly, complaints with their line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

SUFFIXES = (".yaml", ".yml", ".json", ".toml")
FILE_FIELDS = ("data.path", "data.train", "data.dev", "augment.proposers.vectors")
MODEL_FIELDS = ("teacher.model", "augment.proposers.mlm")
"""A short name, a model of the hub, or a folder."""


@dataclass(frozen=True)
class Document:
    """What a file holds.

    Attributes:
        path: of the file.
        values: its fields, nested.
        lines: dotted field -> its line, from 1; none of a TOML file.
    """

    path: Path
    values: dict[str, Any]
    lines: Mapping[str, int]

    @contextmanager
    def named(self, fields: Mapping[str, Any]) -> Iterator[None]:
        """Errors of the block about a field of this file say its line.

        Args:
            fields: dotted fields that come from elsewhere.
        """
        try:
            yield
        except ValueError as error:
            field = str(error).partition(" ")[0]
            line = self.lines.get(field)
            if line is None or field in fields:
                raise
            raise ValueError(f"{error} ({self.path}, line {line})") from None


def read_text(text: str) -> Any:
    """A value of the command line, as YAML 1.2.

    Raises:
        YAMLError: where it is none.
        ValueError: where it says of what kind it is, and is not, or is nested too deep.
    """
    with _loading():
        value = _yaml().load(text)
        # A list that holds itself has no end.
        json.dumps(value, default=str, skipkeys=True)
        return value


@contextmanager
def _loading() -> Iterator[None]:
    """What the readers leave through: tags and dates that do not fit, and maps in maps in maps."""
    try:
        yield
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except KeyError as error:
        raise ValueError(f"{error} is not what its tag says") from None


def read_document(path: Path, what: str) -> Document:
    """The fields in a file.

    Args:
        path: of a YAML, JSON or TOML file.
        what: a recipe or a grid.

    Raises:
        ValueError: one line naming what is wrong, and the line of the file.
    """
    kind = path.suffix[1:].upper() if path.suffix in (".json", ".toml") else "YAML"
    try:
        text = path.read_text(encoding="utf-8-sig")
        with _loading():
            values, lines = _read(text, kind, what, path)
    except _Twice as error:
        raise ValueError(str(error)) from None
    except FileNotFoundError:
        raise ValueError(f"{what} must be an existing file, got {path}") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f", line {mark.line + 1}"
        cause = error.problem or error.context
        raise ValueError(f"{what} must be {kind} in UTF-8, got {path}{line}: {cause}") from None
    except (OSError, ValueError, YAMLError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{what} must be {kind} in UTF-8, got {path}: {cause}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{what} must be a mapping of fields, got {type(values).__name__}")
    return Document(path, values, lines)


def beside(folder: Path, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of a file, whose relative paths are meant from the folder that it lies in.

    Args:
        folder: of the file.
        values: nested fields, or dotted ones.
        prefix: of their dotted names.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        field = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found[name] = beside(folder, value, f"{field}.")
        else:
            found[name] = _absolute(folder, field, value) if isinstance(value, str) else value
    return found


def _absolute(folder: Path, field: str, value: str) -> str:
    place = folder.absolute() / value
    if field not in (*FILE_FIELDS, *MODEL_FIELDS):
        return value
    if field in ("augment.proposers.vectors", *MODEL_FIELDS) and not (
        value.startswith(".") or is_there(place)
    ):
        return value
    return str(place)


def is_there(place: Path) -> bool:
    """Whether a path leads to something; not where it cannot be looked at, or is no path."""
    try:
        return place.exists()
    except (OSError, ValueError):
        return False


class _Twice(ValueError):
    """A key that stands twice, or a map that holds itself."""


def _read(text: str, kind: str, what: str, path: Path) -> tuple[Any, dict[str, int]]:
    if kind == "TOML":
        return tomllib.loads(text), {}
    # Tabs between the parts of a JSON document are no error.
    lines = _lines(_yaml().compose(text.expandtabs() if kind == "JSON" else text), what, path)
    # YAML would take the two halves of a letter for two letters.
    return json.loads(text, strict=False) if kind == "JSON" else _yaml().load(text), lines


def _yaml() -> YAML:
    # In C it would be of version 1.1, where 010 is 8 and 1:30 is 90.
    return YAML(typ="safe", pure=True)


def _lines(node: Node | None, what: str, path: Path) -> dict[str, int]:
    """Dotted field -> line; refuses a key that stands twice."""
    found: dict[str, int] = {}
    _note(node, "", found, (), f"{what} must have each field once, got {{}} of {path}")
    return found


def _note(
    node: Node | None, prefix: str, found: dict[str, int], above: tuple[Node, ...], bound: str
) -> None:
    if any(node is one for one in above):
        raise _Twice(bound.format(f"{prefix.rstrip('.')} that holds itself"))
    if node is not None:
        above = (*above, node)
    if isinstance(node, SequenceNode):
        for number, item in enumerate(node.value):
            _note(item, f"{prefix}{number}.", found, above, bound)
    if not isinstance(node, MappingNode):
        return
    for key, value in node.value:
        field, line = f"{prefix}{key.value}", key.start_mark.line + 1
        if field in found:
            raise _Twice(bound.format(f"{field} in lines {found[field]} and {line}"))
        found[field] = line
        _note(value, f"{field}.", found, above, bound)
