"""What may stand in a record: nothing that becomes a path or a number unchecked."""

from __future__ import annotations

from typing import Any

import pytest
from stage_results import stage_result

from tasks.cache.records import parse_record, record_content
from tasks.store.json_files import sealed

KEY = "1" * 64
RESULT = stage_result("student", KEY, "2" * 64)


def test_a_record_gives_back_the_result() -> None:
    odd = RESULT.model_copy(update={"metrics": {"a": float("inf"), "b": 0.1, "c": "ü\u2028"}})
    for result in (RESULT, odd):
        assert parse_record(record_content(result), KEY, "student") == (result, None)
    assert parse_record(record_content(RESULT), KEY, None) == (RESULT, None)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"stage": "teacher"}, "its record is one of stage teacher"),
        ({"key": "3" * 64}, "its record belongs to the key 333333333333"),
        ({"stage": "../../../escaped"}, None),
        ({"stage": "student\n"}, None),
        ({"artifact": "../" * 21 + "x"}, None),
        ({"artifact": "A" * 64}, None),
        ({"metrics": {"score": True}}, None),
        ({"metrics": {"score": "\x1b[31m"}}, None),
        ({"metrics": [0.5]}, None),
        ({"seconds": -1.0}, None),
        ({"seconds": float("nan")}, None),
        ({"attempt": "1"}, None),
        ({"attempt": 10**30}, None),
        ({"mlflow_run_id": "../x"}, None),
        ({"finished_at": "soon"}, None),
        ({"finished_at": "2026-01-01T00:00:00"}, None),
        ({"serializer": {"type": "pickle"}}, None),
    ],
)
def test_a_field_that_does_not_fit_makes_it_a_miss(
    changes: dict[str, Any], problem: str | None
) -> None:
    content = sealed(RESULT.model_dump() | changes)
    said = problem or "its record is not the result of a stage"
    assert parse_record(content, KEY, "student") == (None, said)


def test_every_flipped_bit_is_noticed() -> None:
    content = record_content(RESULT)
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        record, problem = parse_record(bytes(flipped), KEY, "student")
        # White space between values says nothing.
        assert record == RESULT if problem is None else record is None
