"""The Hugging Face hub: asked once whether it answers, before its libraries wait for minutes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from flows.recipes.schema import Recipe
from rosita_core.model.locate import of_hub
from tasks.host.network import unreachable

OFFLINE = "HF_HUB_OFFLINE"
HUB_SECONDS = 10.0
PLACES = ("huggingface_hub.constants", "datasets.config")
"""Modules that keep the answer once they are imported."""


def silent_hub(recipe: Recipe) -> str | None:
    """Why the hub does not answer, where a recipe may want something of it; else None."""
    if not asks_hub(recipe):
        return None
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return None
    # Whoever refuses is there.
    problem = unreachable(constants.ENDPOINT, range(600), HUB_SECONDS)
    return None if problem is None else f"the hub at {constants.ENDPOINT} is silent: {problem}"


def asks_hub(recipe: Recipe) -> bool:
    """Whether a model or the data of a recipe come from the hub."""
    if recipe.data.source == "hub":
        return True
    names = (recipe.teacher.model, recipe.augment.proposers.mlm)
    return any(name is not None and of_hub(name) for name in names)


@contextmanager
def without_hub() -> Iterator[None]:
    """What was fetched before is read in this block, and nothing is asked of the hub."""
    before = {name: getattr(sys.modules[name], OFFLINE) for name in PLACES if name in sys.modules}
    said = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"
    for name in before:
        setattr(sys.modules[name], OFFLINE, True)
    try:
        yield
    finally:
        os.environ.pop(OFFLINE)
        if said is not None:
            os.environ[OFFLINE] = said
        for name in PLACES:
            if name in sys.modules:
                setattr(sys.modules[name], OFFLINE, before.get(name, False))
