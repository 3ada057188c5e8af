"""`rosita gc` beside a run frees nothing that the run needs later."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from faulty import STAGES, Done, FaultyHome, hold_at

from tasks.store.artifacts import Store

MakeHome = Callable[[str | None], FaultyHome]


def test_everything_that_is_not_in_use_is_freed(
    home_before: MakeHome, undisturbed: Done, tmp_path: Path
) -> None:
    """The teacher came from the cache before `augment`, which does not read it; `student` does."""
    place, flag = home_before("augment"), tmp_path / "go-on"
    # The run that made the teacher has ended: nothing of it is needed for its own sake.
    ended = place.home / "runs" / place.attempts("teacher")[0]["flow_run_id"]
    ended.mkdir(parents=True)
    (ended / "error.txt").write_text("ended")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_text("of no use")
    store = Store(place.home)
    old = store.put(tmp_path / "old")
    os.utime(store.path(old).parent, (0, 0))
    for path in store.path(old).parent.rglob("*"):
        os.utime(path, (0, 0))
    run = place.start_compress(faults=[hold_at("augment", 1, flag)])
    run.until_held(flag)
    freed = place.run("gc", "--older-than", "0", "--yes", "--json")
    assert freed.code == 0, freed.stderr
    assert old not in store.digests()
    flag.touch()
    done = run.done()
    before = ("data", "teacher")
    assert done.statuses() == {s: "cached" if s in before else "completed" for s in STAGES}
    assert done.artifacts() == undisturbed.artifacts()
