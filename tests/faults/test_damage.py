"""What was damaged on disk is noticed, set aside and computed again; a hit never lies."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import STAGES, Done, FaultyHome, artifact, signals_at

from tasks.store.json_files import unsealed

MakeHome = Callable[[str | None], FaultyHome]
Damage = Callable[[FaultyHome, Done], None]


def writable(path: Path) -> Path:
    path.chmod(path.stat().st_mode | 0o200)
    return path


def flip_a_byte(path: Path) -> None:
    content = bytearray(writable(path).read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    content = writable(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def record(place: FaultyHome, undisturbed: Done, stage: str) -> Path:
    entries = undisturbed.summary["stages"]
    return place.home / "results" / next(s["key"] for s in entries if s["name"] == stage)


def damaged_weights(place: FaultyHome, undisturbed: Done) -> None:
    flip_a_byte(artifact(place.home, undisturbed.summary, "teacher") / "files/model.safetensors")


def deleted_file(place: FaultyHome, undisturbed: Done) -> None:
    (artifact(place.home, undisturbed.summary, "augment") / "files/augmented.parquet").unlink()


def cut_manifest(place: FaultyHome, undisturbed: Done) -> None:
    cut_short(artifact(place.home, undisturbed.summary, "student") / "manifest.json")


def foreign_record(place: FaultyHome, undisturbed: Done) -> None:
    record(place, undisturbed, "depth").write_text("half a rec", encoding="utf-8")


# Stage, damage, and what the run says about it.
DAMAGES: dict[str, tuple[str, Damage, str]] = {
    "a byte flipped in weights": ("teacher", damaged_weights, "model.safetensors has changed"),
    "a file deleted": ("augment", deleted_file, "augmented.parquet is missing"),
    "a manifest cut short": ("student", cut_manifest, "manifest.json is not readable JSON"),
    "a record that is not JSON": ("depth", foreign_record, "its record is not readable JSON"),
}


def test_damaged_artifacts_and_records(home_before: MakeHome, undisturbed: Done) -> None:
    """Exactly their stages are computed again; `rosita plan` says so before, and moves nothing."""
    place = home_before(None)
    # The last first: a stage whose inputs are damaged as well waits for them.
    for stage, damage, complaint in reversed(DAMAGES.values()):
        damage(place, undisturbed)
        planned = place.plan()[stage]
        assert planned["status"] == "to run"
        assert complaint in planned["reason"]
    for kept in ("results", "store"):
        assert not (place.home / kept / "damaged").exists(), "plan must not move anything"

    done = place.compress()
    assert done.artifacts() == undisturbed.artifacts()
    again = [stage for stage, _, _ in DAMAGES.values()]
    assert done.statuses() == {s: "completed" if s in again else "cached" for s in STAGES}
    for stage, _, complaint in DAMAGES.values():
        assert f"stage {stage} will run again: " in done.stderr
        assert complaint in done.stderr
    store = place.home / "store"
    spoilt = [stage for stage in again if stage != "depth"]
    assert sorted(path.name.rpartition("-")[0] for path in store.glob("damaged/*")) == sorted(
        artifact(place.home, undisturbed.summary, stage).name for stage in spoilt
    )
    assert len(list(place.home.glob("results/damaged/*"))) == len(again)


def checkpoints(place: FaultyHome) -> list[Path]:
    """The checkpoints of the one unfinished stage, oldest first."""
    return sorted(place.home.glob("checkpoints/*/[0-9]*"))


def units_done(path: Path) -> int:
    unit: int = unsealed((path / "about.json").read_bytes())["unit"]
    return unit


def test_checkpoint_cut_short(home_before: MakeHome, undisturbed: Done) -> None:
    """The one before is used."""
    place = killed_in_width(home_before)
    cut_short(checkpoints(place)[-1] / "files" / "model.safetensors")
    done = place.compress()
    assert done.artifacts() == undisturbed.artifacts()
    assert place.resumed_from("width") == [None, 6]
    assert "of stage width is damaged (model.safetensors has " in done.stderr
    assert "trying the one before" in done.stderr
    assert place.unfinished() == []


@pytest.mark.parametrize("file", ["files/state.json", "manifest.json", "about.json"])
def test_all_checkpoints_damaged(home_before: MakeHome, undisturbed: Done, file: str) -> None:
    """The stage begins anew."""
    place = killed_in_width(home_before)
    for path in checkpoints(place):
        cut_short(path / file)
    done = place.compress()
    assert done.artifacts() == undisturbed.artifacts()
    assert place.resumed_from("width") == [None, None]
    assert done.stderr.count("of stage width is damaged (") == 2
    assert place.unfinished() == []


def killed_in_width(home_before: MakeHome) -> FaultyHome:
    """A home with two checkpoints of the stage, after 6 and after 8 steps."""
    place = home_before("width")
    killed = place.compress(faults=[signals_at("width", 9, "SIGKILL")])
    assert killed.code == 128 + signal.SIGKILL
    assert [units_done(path) for path in checkpoints(place)] == [6, 8]
    return place
