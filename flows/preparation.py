"""What every command that computes does first: look the recipe up on this machine."""

from __future__ import annotations

from flows.compress import numerics_of, stage_of
from flows.method import method
from flows.recipe import Recipe
from flows.request import Request, check, check_data, home_directory
from tasks.records import find_record
from tasks.stage_key import stage_key


def prepare_request(recipe: Recipe) -> Request:
    """The request, with its data read and checked unless it already was by an earlier run.

    Raises:
        ValueError: one line naming the field, the bound and the value.
    """
    request = check(recipe, home_directory())
    numerics = numerics_of(recipe)
    data = method(request)[0]
    if find_record(request.home, stage_key(stage_of(data, {}, numerics))) is None:
        check_data(request)
    return request
