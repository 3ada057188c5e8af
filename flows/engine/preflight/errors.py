"""What a preflight finds, as one line for people and a traceback in a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

from flows.recipes.request import Request
from flows.recipes.schema import Recipe, Section
from tasks.home import Home
from tasks.host.failure import Failure
from tasks.host.wording import trace_of


class PreflightError(Failure):
    """A stage of the run would fail; the message names it, the recipe and the cause."""


class PreflightRefused(ValueError):
    """The same, where a field of the recipe or the room on the disk is the cause."""


@contextmanager
def named(stage: str, request: Request, config: Any) -> Iterator[None]:
    """Errors of the block as one line about the stage, the traceback in a file."""
    try:
        yield
    except Exception as error:
        path = Home(request.home).logs / "preflight.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(trace_of(error), encoding="utf-8")
        refused = isinstance(error, ValueError) and _names_a_field(str(error), config)
        cause = str(error) if refused else f"{type(error).__name__}: {error}"
        message = (
            f"preflight: stage {stage} of recipe {request.recipe.name} would fail: "
            f"{' '.join(cause.split())}; its traceback is {path}; --no-preflight runs without it"
        )
        raise (PreflightRefused if refused else PreflightError)(message) from error


def _names_a_field(message: str, config: Any) -> bool:
    """Whether an error is about a field of the recipe or of the stage's settings."""
    first = (message.split() or [""])[0].rstrip(":")
    return first in _field_names(config) | _recipe_fields()


def _field_names(config: Any) -> set[str]:
    if not is_dataclass(config):
        return set()
    names: set[str] = set()
    for field in fields(config):
        names |= {field.name} | _field_names(getattr(config, field.name))
    return names


def _recipe_fields() -> set[str]:
    names = set(Recipe.model_fields)
    for name, field in Recipe.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            names |= {f"{name}.{inner}" for inner in field.annotation.model_fields}
    return names
