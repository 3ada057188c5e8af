"""A full disk is a clear error that costs at most what came after the last checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from faulty import Done, FaultyHome
from small_disk import small_disk

MakeHome = Callable[[str | None], FaultyHome]

TOO_LITTLE = 100_000
"""Bytes: less than the weights of the smallest model of the smoke recipe."""


def error_line(done: Done) -> str:
    """The one line of a failed run."""
    assert done.code == 1, done.stderr[-4000:]
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.last_line


def test_no_room_for_an_artifact(home_before: MakeHome, undisturbed: Done) -> None:
    place = home_before("width")
    with small_disk(place.home / "store", 64) as disk:
        disk.fill(leave=TOO_LITTLE)
        said = error_line(place.compress())
        assert re.search(
            r"stage width failed in attempt 1 of recipe smoke: .*no room for the artifact of stage "
            rf"width: 0\.\d MB free in {re.escape(str(disk.folder))}; free some and run the same "
            "command again, it goes on from the last checkpoint",
            said,
        )
        assert "its record with the traceback is" in said
        assert list(disk.folder.glob("tmp/*")) == []
        disk.free()
        store = place.doctor()["store"]
        assert (store["status"], store["detail"]) == ("ok", "5 artifacts, all whole")
        done = place.compress()
        assert done.artifacts() == undisturbed.artifacts()
        assert place.resumed_from("width") == [None, 14]
        assert place.unfinished() == []


@pytest.mark.long
def test_no_room_for_a_checkpoint(home_before: MakeHome, undisturbed: Done) -> None:
    place = home_before("width")
    with small_disk(place.home / "checkpoints", 64) as disk:
        # Room for a part of one: the first that is not whole leaves nothing behind.
        disk.fill(leave=TOO_LITTLE)
        said = error_line(place.compress())
        assert re.search(
            "stage width failed in attempt 1 of recipe smoke: .*no room for a checkpoint of stage "
            rf"width after 2 of 15 steps: 0\.\d MB free in {re.escape(str(disk.folder))}",
            said,
        )
        assert [path.name for path in disk.folder.rglob(".partial-*")] == []
        disk.free()
        assert place.doctor()["store"]["status"] == "ok"
        assert place.compress().artifacts() == undisturbed.artifacts()
        assert [path.name for path in disk.folder.iterdir()] == []
