"""The law of `tests/caching/test_mutations.py` on thousands of other mutations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from mutations import Mutation, Place, check, made_place, mutations


@pytest.fixture(scope="module")
def made() -> Iterator[Place]:
    with made_place() as place:
        yield place


@pytest.mark.long
@given(mutation=mutations)
@settings(max_examples=2000, database=None)
def test_whatever_bytes_lie_there(made: Place, mutation: Mutation) -> None:
    check(made, mutation)
