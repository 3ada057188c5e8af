"""Checkpoints of an unfinished stage, as `rosita_core.training.checkpoints` wants them.

Layout below the home; the number counts up, whatever the clock says:

    checkpoints/<stage key>/<number>/files/...        what the kernel wrote
    checkpoints/<stage key>/<number>/manifest.json    [path, size, sha256] of every file
    checkpoints/<stage key>/<number>/about.json       units done, of how many, seconds; sealed
    checkpoints/<stage key>/damaged-<number>-<n>      one that failed verification

A checkpoint is written under another name and renamed when it is whole and on disk. The last two
are kept, so that one damaged copy costs one interval; all go when the stage completes.
"""

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tasks.cache.documents import CheckpointAbout
from tasks.home import Home
from tasks.host.logs import warn
from tasks.host.signals import stop_requested, stopped
from tasks.store.disk import is_full, no_room
from tasks.store.durable import to_disk, tree_to_disk
from tasks.store.json_files import read_file, sealed, unsealed, write_json, write_whole
from tasks.store.manifests import FILES, MANIFEST, build_manifest, manifest_problem
from tasks.store.removal import set_aside

ABOUT = "about.json"
PARTIAL, DAMAGED = ".partial-", "damaged-"
USED = re.compile(f"(?:{DAMAGED})?([0-9]{{6,12}})")
KEPT = 2


def drop_checkpoints(home: str | Path, key: str) -> None:
    """Remove those of a stage that is done."""
    shutil.rmtree(Home(home).checkpoints_of(key), ignore_errors=True)


@dataclass(frozen=True)
class Saved:
    """One whole checkpoint.

    Attributes:
        path: its folder.
        about: what it says of itself.
    """

    path: Path
    about: CheckpointAbout

    @property
    def files(self) -> Path:
        return self.path / FILES


def newest(folder: Path) -> Saved | None:
    """The newest checkpoint as it describes itself; nothing is verified or moved."""
    for path in _numbered(folder):
        about, _ = _read_about(path)
        if about is not None:
            return Saved(path, about)
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
        if again and (left := newest(folder)) is not None and not left.about.again:
            self.drop()
        self._latest = self._find()
        if self._latest is not None:
            self.seconds_before = self._latest.about.seconds
            self.resumed_from = self._saved_unit = self._latest.about.unit

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
                "it goes on from there when it is started again"
            )
            raise stopped()

    def drop(self) -> None:
        """Remove them all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, unit: int, total: int, write: Callable[[Path], None]) -> Saved:
        number = next_number(self.folder)
        partial = self.folder / f"{PARTIAL}{number:06d}"
        files = partial / FILES
        seconds = self.seconds_before + time.monotonic() - self._began
        about = CheckpointAbout(
            stage=self._stage,
            unit=unit,
            total=total,
            seconds=round(seconds, 3),
            again=self._again,
        )
        try:
            files.mkdir(parents=True)
            write(files)
            write_json(partial / MANIFEST, build_manifest(files))
            write_whole(partial / ABOUT, sealed(about.model_dump()))
            tree_to_disk(partial)
            path = partial.rename(self.folder / f"{number:06d}")
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        to_disk(self.folder)
        for old in _numbered(self.folder)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        return Saved(path, about)

    def _find(self) -> Saved | None:
        """The newest one that is whole; those that are not are set aside and reported."""
        for path in self.folder.glob(f"{PARTIAL}*"):
            # Of a process that was killed: whoever asks now holds the stage's lock.
            shutil.rmtree(path, ignore_errors=True)
        for path in _numbered(self.folder):
            about, problem = _read_about(path)
            problem = problem or manifest_problem(path)
            if about is not None and about.stage != self._stage:
                problem = f"it is one of stage {about.stage}"
            if about is not None and problem is None:
                return Saved(path, about)
            aside = set_aside(path, self.folder / f"{DAMAGED}{path.name}")
            warn(
                f"checkpoint {path.name} of stage {self._stage} is damaged ({problem}) and was "
                f"set aside as {aside}; trying the one before"
            )
        return None


def is_number(name: str) -> bool:
    """Whether a name is that of a checkpoint."""
    return re.fullmatch("[0-9]{6,12}", name) is not None


def next_number(folder: Path) -> int:
    """The number of the next checkpoint in a folder; no number comes twice."""
    used = (USED.match(path.name) for path in folder.glob("*"))
    return 1 + max((int(found[1]) for found in used if found), default=0)


def parse_about(content: bytes) -> tuple[CheckpointAbout | None, str | None]:
    """What a checkpoint says of itself, and what is wrong with that."""
    try:
        return CheckpointAbout.model_validate(unsealed(content), strict=True), None
    except ValidationError:
        return None, f"{ABOUT} does not say what a checkpoint says"
    except ValueError as error:
        return None, f"{ABOUT} {error}"


def _numbered(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    found = (path for path in folder.glob("[0-9]*") if is_number(path.name))
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def _read_about(path: Path) -> tuple[CheckpointAbout | None, str | None]:
    try:
        return parse_about(read_file(path / ABOUT))
    except OSError as error:
        return None, f"{ABOUT} cannot be read: {error.strerror}"
