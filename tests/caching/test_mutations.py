"""Whatever a home or a shared store holds is a verified hit, or a miss that says why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from mutations import (
    BYTES,
    FILES,
    KEY,
    Mutation,
    Place,
    check,
    hit_or_computed,
    made_place,
    mutations,
)

from tasks.cache.locks import StageLocks
from tasks.cache.records import attempts, inspect_record
from tasks.home import Home

NOBODY = 65534


@pytest.fixture(scope="module")
def made() -> Iterator[Place]:
    with made_place() as place:
        yield place


@given(mutation=mutations)
@settings(max_examples=200, derandomize=True, database=None)
def test_whatever_bytes_lie_there(made: Place, mutation: Mutation) -> None:
    check(made, mutation)


@contextmanager
def as_another_user(folder: Path, but: Path) -> Iterator[None]:
    """The block is another user, to whom all of a folder belongs but what lies at a path."""
    if os.geteuid() != 0:
        pytest.skip("being another user needs root")
    for path in (folder, *folder.rglob("*")):
        if but not in (path, *path.parents):
            os.chown(path, NOBODY, NOBODY)
    but.chmod(0o700)
    folder.parent.chmod(0o755)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_weights_that_only_another_user_may_read_are_a_miss(made: Place) -> None:
    place = made.copied(made.root.with_name("others-weights"))
    [weights] = place.root.glob(FILES["content"])
    with as_another_user(place.root, but=weights):
        problem = inspect_record(place.home, KEY, "student")[1]
        assert problem is not None
        assert problem.endswith(": weights.bin cannot be read: Permission denied")
        assert hit_or_computed(place.home).attempt == 2


def test_an_artifact_that_cannot_be_set_aside_fails_the_stage_before_it_runs(made: Place) -> None:
    place = made.copied(made.root.with_name("others-artifact"))
    [manifest] = place.root.glob(FILES["manifest"])
    with as_another_user(place.root, but=manifest.parent):
        with pytest.raises(OSError, match=r"artifact [0-9a-f]+: .*, and it cannot be set"):
            hit_or_computed(place.home)
        assert len(attempts(place.home, "student")) == 1
        assert not StageLocks(Home(place.home).locks).is_locked(KEY)


@pytest.mark.parametrize("kind", FILES)
def test_each_kind_of_file_is_replaced_by_what_is_none(made: Place, kind: str) -> None:
    for how in ("a folder", "a pipe", "pickled", "cut", "flipped"):
        check(made, Mutation(kind, how, 7, 7, True))
    for content in range(len(BYTES)):
        check(made, Mutation(kind, "replaced", 1, content, True))
