"""What is known of a recipe's rows before anything runs."""

from __future__ import annotations

from collections.abc import Mapping

from flows.engine.checks import is_here
from flows.engine.nodes import numerics_of, stage_of
from flows.engine.summary import counted_rows
from flows.method import method
from flows.recipes.request import Request, read_rows
from tasks.cache.shared_records import look_quickly


def known_rows(request: Request) -> Mapping[str, int]:
    """What the data stage counts, from its result or else from rows that need not be fetched."""
    data = stage_of(method(request)[0], {}, numerics_of(request.recipe))
    record, _ = look_quickly(request.home, data.key)
    if record is not None:
        return counted_rows(record.metrics)
    return read_rows(request.source)[1] if is_here(request) else {}
