"""Rooms: few files in each, and a page that says what it is for."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST, MOST_IN_THE_HALL, A_PAGE = 16, 8, 80


def rooms() -> list[Path]:
    parts = (ROOT / name for name in ("flows", "tasks", "rosita_core"))
    return sorted({path.parent for part in parts for path in part.rglob("*.py")})


@pytest.mark.parametrize("room", rooms(), ids=lambda room: room.relative_to(ROOT).as_posix())
def test_a_room_is_small_and_says_what_it_is_for(room: Path) -> None:
    assert len(list(room.glob("*.py"))) <= MOST
    page = (room / "README.md").read_text(encoding="utf-8")
    assert len(page.split()) > 10 and len(page.splitlines()) <= A_PAGE


def test_the_hall_of_the_flows_is_smaller() -> None:
    assert len(list((ROOT / "flows").glob("*.py"))) <= MOST_IN_THE_HALL
