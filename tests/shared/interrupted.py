"""Checkpoints in a folder that stop a kernel at the units that a test asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path


class Stopped(Exception):
    """The kernel was stopped, as a signal would."""


class StoppingAt:
    """Saves and stops at each of `units`, in order, each once."""

    def __init__(self, folder: Path, units: Iterable[int]) -> None:
        self.folder = folder
        self.units = list(units)
        self.saved: list[Path] = []

    def latest(self) -> Path | None:
        return self.saved[-1] if self.saved else None

    def due(self, unit: int) -> bool:
        return bool(self.units) and unit >= self.units[0]

    def save(self, unit: int, total: int, write: Callable[[Path], None]) -> Path:
        self.units.pop(0)
        folder = self.folder / f"{len(self.saved)}"
        folder.mkdir(parents=True)
        write(folder)
        self.saved.append(folder)
        raise Stopped(f"at {unit} of {total}")

    def stop_if_asked(self, unit: int, total: int) -> None:
        if self.due(unit):
            self.units.pop(0)
            raise Stopped(f"at {unit} of {total}, which is saved")
