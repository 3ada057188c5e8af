"""Checkpoints of an unfinished stage, as `rosita_core.training.checkpoints` wants them.

Layout below the home; the number counts up, whatever the clock says:

    checkpoints/<stage key>/<number>/files/...        what the kernel wrote
    checkpoints/<stage key>/<number>/manifest.json    [path, size, sha256] of every file
    checkpoints/<stage key>/<number>/about.json       units done, of how many, seconds so far
    checkpoints/<stage key>/damaged-<number>          one that failed verification

A checkpoint is written under another name and renamed when it is whole and on disk. The last two
are kept, so that one damaged copy costs one interval; all go when the stage completes.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.home import Home
from tasks.host.logs import warn
from tasks.host.signals import stop_requested, stopped
from tasks.store.artifacts import FILES, MANIFEST, build_manifest, manifest_problem, write_json
from tasks.store.disk import is_full, no_room
from tasks.store.durable import to_disk, tree_to_disk

ABOUT = "about.json"
PARTIAL = ".partial-"
KEPT = 2


def checkpoints_folder(home: str | Path, key: str) -> Path:
    """Where the checkpoints of a stage key lie while the stage is unfinished."""
    return Home(home).checkpoints_of(key)


def drop_checkpoints(home: str | Path, key: str) -> None:
    """Remove those of a stage that is done."""
    shutil.rmtree(checkpoints_folder(home, key), ignore_errors=True)


@dataclass(frozen=True)
class Saved:
    """One whole checkpoint.

    Attributes:
        path: its folder.
        unit: units of work done (optimizer steps, rows, batches).
        total: units in all.
        seconds: that the stage had taken until then, over all its attempts.
        again: whether the stage was being computed again on purpose.
    """

    path: Path
    unit: int
    total: int
    seconds: float
    again: bool

    @property
    def files(self) -> Path:
        return self.path / FILES


def newest(folder: Path) -> Saved | None:
    """The newest checkpoint as it describes itself; nothing is verified or moved."""
    for path in _numbered(folder):
        try:
            return _described(path)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


class StageCheckpoints:
    """The checkpoints of one attempt; the caller holds the lock of the stage key."""

    def __init__(
        self,
        folder: Path,
        stage: str,
        every_seconds: float,
        every_units: int | None,
        again: bool,
    ) -> None:
        """Find the newest checkpoint.

        With `again` the stage is computed again on purpose: it goes on from a checkpoint of such an
        attempt only, and drops those of others.
        """
        self.folder = folder
        self._again = again
        self._stage = stage
        self._every_seconds = every_seconds
        self._every_units = every_units
        self._began = self._saved_at = time.monotonic()
        self._saved_unit = 0
        self.seconds_before = 0.0
        """What earlier attempts had taken until the checkpoint that this one goes on from."""
        self.resumed_from: int | None = None
        """Units that were done when this attempt began; None without a checkpoint."""
        if again and (left := newest(folder)) is not None and not left.again:
            self.drop()
        self._latest = self._find()
        if self._latest is not None:
            self.seconds_before = self._latest.seconds
            self.resumed_from = self._saved_unit = self._latest.unit

    def latest(self) -> Path | None:
        """The files of the newest whole checkpoint."""
        return None if self._latest is None else self._latest.files

    def due(self, unit: int) -> bool:
        """Whether the interval is over, or a signal asks the stage to stop."""
        if stop_requested():
            return True
        if self._every_units is not None and abs(unit - self._saved_unit) >= self._every_units:
            return True
        return time.monotonic() - self._saved_at >= self._every_seconds

    def save(self, unit: int, total: int, write: Callable[[Path], None]) -> Path:
        """Keep what `write` writes; then raise what a signal means, if one waits.

        Raises DiskFull, naming the place and what is left there, when it is full.
        """
        try:
            self._latest = self._write(unit, total, write)
        except Exception as error:
            if not is_full(error):
                raise
            what = f"a checkpoint of stage {self._stage} after {unit:,} of {total:,} steps"
            raise no_room(what, self.folder) from error
        self._saved_at, self._saved_unit = time.monotonic(), unit
        self.stop_if_asked(unit, total)
        return self._latest.files

    def stop_if_asked(self, unit: int, total: int) -> None:
        """Raise what a signal means, if one waits; what the kernel has done is saved already."""
        if stop_requested():
            warn(
                f"stage {self._stage} was stopped and saved after {unit:,} of {total:,} steps; "
                "the same command goes on from there"
            )
            raise stopped()

    def drop(self) -> None:
        """Remove them all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, unit: int, total: int, write: Callable[[Path], None]) -> Saved:
        number = 1 + max((int(p.name.rpartition("-")[2]) for p in self._all()), default=0)
        partial = self.folder / f"{PARTIAL}{number:06d}"
        files = partial / FILES
        seconds = self.seconds_before + time.monotonic() - self._began
        about = {
            "stage": self._stage,
            "unit": unit,
            "total": total,
            "seconds": round(seconds, 3),
            "again": self._again,
        }
        try:
            files.mkdir(parents=True)
            write(files)
            write_json(partial / MANIFEST, build_manifest(files))
            write_json(partial / ABOUT, about)
            tree_to_disk(partial)
            path = partial.rename(self.folder / f"{number:06d}")
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        to_disk(self.folder)
        for old in _numbered(self.folder)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        return Saved(path, unit, total, seconds, self._again)

    def _find(self) -> Saved | None:
        """The newest one that is whole; those that are not are set aside and reported."""
        for path in self.folder.glob(f"{PARTIAL}*"):
            # Of a process that was killed: whoever asks now holds the stage's lock.
            shutil.rmtree(path, ignore_errors=True)
        for path in _numbered(self.folder):
            try:
                problem = manifest_problem(path)
                saved = _described(path)
            except (OSError, ValueError, KeyError, TypeError):
                problem = f"{ABOUT} cannot be read"
            if problem is None:
                return saved
            aside = path.rename(self.folder / f"damaged-{path.name}")
            warn(
                f"checkpoint {path.name} of stage {self._stage} is damaged ({problem}) and was "
                f"set aside as {aside}; trying the one before"
            )
        return None

    def _all(self) -> list[Path]:
        return [*_numbered(self.folder), *self.folder.glob("damaged-*")]


def _numbered(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    return sorted(folder.glob("[0-9]*"), reverse=True)


def _described(path: Path) -> Saved:
    about: dict[str, Any] = json.loads((path / ABOUT).read_text(encoding="utf-8"))
    unit, total = int(about["unit"]), int(about["total"])
    return Saved(path, unit, total, float(about["seconds"]), bool(about["again"]))
