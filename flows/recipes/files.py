"""Recipes and grids as files: YAML 1.2, JSON or TOML, read strictly, complaints with their line."""

from __future__ import annotations

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
    """
    return _yaml().load(text)


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
        if kind == "TOML":
            values, lines = tomllib.loads(text), {}
        else:
            # Tabs between the parts of a JSON document are no error.
            text = text.expandtabs() if kind == "JSON" else text
            lines = _lines(_yaml().compose(text), what, path)
            values = _yaml().load(text)
    except FileNotFoundError:
        raise ValueError(f"{what} must be an existing file, got {path}") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f", line {mark.line + 1}"
        cause = error.problem or error.context
        raise ValueError(f"{what} must be {kind} in UTF-8, got {path}{line}: {cause}") from None
    except (OSError, UnicodeDecodeError, YAMLError, tomllib.TOMLDecodeError) as error:
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
        value.startswith(".") or place.exists()
    ):
        return value
    return str(place)


def _yaml() -> YAML:
    # In C it would be of version 1.1, where 010 is 8 and 1:30 is 90.
    return YAML(typ="safe", pure=True)


def _lines(node: Node | None, what: str, path: Path) -> dict[str, int]:
    """Dotted field -> line; refuses a key that stands twice."""
    found: dict[str, int] = {}
    _note(node, "", found, what, path)
    return found


def _note(node: Node | None, prefix: str, found: dict[str, int], what: str, path: Path) -> None:
    if isinstance(node, SequenceNode):
        for number, item in enumerate(node.value):
            _note(item, f"{prefix}{number}.", found, what, path)
    if not isinstance(node, MappingNode):
        return
    for key, value in node.value:
        field, line = f"{prefix}{key.value}", key.start_mark.line + 1
        if field in found:
            raise ValueError(
                f"{what} must have each field once, got {field} in lines {found[field]} and {line} "
                f"of {path}"
            )
        found[field] = line
        _note(value, f"{field}.", found, what, path)
