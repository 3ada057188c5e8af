"""What pydantic finds wrong with a recipe, said in one line of English."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.host.wording import meant, shortened

COMPARED = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("above", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("below", "lt"),
}
_TYPES = {
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a finite number",
    "not_a_number": "a number",
    "string_": "text",
    "bool_": "true or false",
    "model_": "a section of fields",
    "tuple_": "a list",
    "dict_": "a map",
    "too_short": "a list of at least 1 entry",
}


def first_complaint(error: ValidationError, root: type[BaseModel]) -> str:
    """The first complaint about the fields of `root`, as "field must be bound, got value"."""
    found = error.errors(include_url=False)
    kind, got, message = found[0]["type"], found[0]["input"], str(found[0]["msg"])
    section, path = _known_part(found[0]["loc"], root)
    field = ".".join(path) or root.__name__.lower()
    if kind in ("extra_forbidden", "invalid_key"):
        known = ", ".join(section.model_fields)
        inside = ".".join(path[:-1]) or root.__name__.lower()
        guess = meant(path[-1], section.model_fields)
        return f"{field} must be one of the fields of {inside} ({known}), got {path[-1]!r}{guess}"
    if kind == "missing":
        return f"{field} must be given, got nothing"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    # A field of several types complains once for each of them. A list whose entries are wrong is
    # short as well, once they are taken out of it.
    alike = [item for item in found if (item["type"] == "too_short") == (kind == "too_short")]
    bounds = [_bound(item) for item in alike if _known_part(item["loc"], root)[1] == path]
    return f"{field} must be {' or '.join(dict.fromkeys(bounds))}, got {shortened(repr(got))}"


def _known_part(
    loc: tuple[int | str, ...], root: type[BaseModel]
) -> tuple[type[BaseModel], list[str]]:
    """The section that a complaint is about, and its path up to the field's own name.

    Pydantic adds the member of a union and the position in a list, which mean nothing to people.
    """
    section = root
    path: list[str] = []
    for part in loc:
        path.append(str(part))
        if str(part) not in section.model_fields:
            break
        inner = section.model_fields[str(part)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        section = inner
    return section, path


def _bound(item: Any) -> str:
    """What a value must be, in words."""
    context = item.get("ctx", {})
    if item["type"] in COMPARED:
        word, limit = COMPARED[item["type"]]
        return f"{word} {context[limit]:.15g}"
    if item["type"] == "string_too_long":
        return f"at most {context['max_length']} letters"
    if item["type"] == "string_pattern_mismatch":
        return f"text that matches {context['pattern']}"
    if item["type"] == "literal_error":
        return str(context["expected"]).replace("'", "")
    for prefix, words in _TYPES.items():
        if item["type"].startswith(prefix):
            return words
    return str(item["msg"]).removeprefix("Input should be ")


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
