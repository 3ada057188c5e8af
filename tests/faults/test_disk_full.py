"""A full disk is a clear error that costs at most what came after the last checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import Done, FaultyHome, hold_at
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
            rf"width: 0\.\d MB free in {re.escape(str(disk.folder))}; free some and start it "
            "again, it goes on from the last checkpoint",
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
def test_no_room_in_the_whole_home(
    home_before: MakeHome, undisturbed: Done, tmp_path: Path
) -> None:
    place, flag = home_before("width"), tmp_path / "go-on"
    with small_disk(place.home, 100) as disk:
        run = place.start_compress(faults=[hold_at("width", 8, flag)])
        run.until_held(flag)
        disk.fill(leave=0)
        flag.touch()
        done = run.done()
        assert "no room for a checkpoint of stage width after 8 of 15 steps" in error_line(done)
        said = [line for line in done.stderr.splitlines() if line.startswith("rosita: ")]
        assert any("does not answer (database or disk is full)" in line for line in said)
        # Besides what the stages say: a line for each thing that could not be written.
        assert 2 <= len(said) <= 8
        assert len(done.stderr.splitlines()) <= len(said) + 20
        disk.free()
        assert place.compress().artifacts() == undisturbed.artifacts()
        assert place.unfinished() == []


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
