"""What a long kernel writes down on the way, so that it can go on after it was stopped.

A kernel asks after each unit of work whether a checkpoint is due, and writes its whole state into
the folder that it is given. Where checkpoints lie, how many are kept and what stops a kernel is its
caller's affair.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file

STATE = "state.json"


class Checkpoints(Protocol):
    """The checkpoints of one kernel."""

    def latest(self) -> Path | None:
        """The folder of the newest whole checkpoint, which is read only; None at the start."""

    def due(self, unit: int) -> bool:
        """Whether to save now, after `unit` units of work."""

    def save(self, unit: int, total: int, write: Callable[[Path], None]) -> Path:
        """Let `write` fill a folder, keep it, and return where it is.

        Does not return where the kernel is to stop: the exception that it raises goes through.
        """

    def stop_if_asked(self, unit: int, total: int) -> None:
        """As `save` where the newest checkpoint is as good as a new one: nothing is written."""


class NoCheckpoints:
    """For kernels that are called on their own."""

    def latest(self) -> Path | None:
        return None

    def due(self, unit: int) -> bool:
        return False

    def save(self, unit: int, total: int, write: Callable[[Path], None]) -> Path:
        raise AssertionError("nothing is due")

    def stop_if_asked(self, unit: int, total: int) -> None:
        """Nobody asks."""


class FromNow:
    """Checkpoints without those that lie there already: for the next phase of a kernel."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints

    def latest(self) -> Path | None:
        return None

    def due(self, unit: int) -> bool:
        return self._checkpoints.due(unit)

    def save(self, unit: int, total: int, write: Callable[[Path], None]) -> Path:
        return self._checkpoints.save(unit, total, write)

    def stop_if_asked(self, unit: int, total: int) -> None:
        self._checkpoints.stop_if_asked(unit, total)


def write_state(folder: Path, values: dict[str, Any]) -> None:
    """JSON-able values; Python's own reader takes the infinities in them back."""
    (folder / STATE).write_text(json.dumps(values, sort_keys=True), encoding="utf-8")


def read_state(folder: Path) -> dict[str, Any]:
    """What `write_state` wrote."""
    values: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    return values


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Named tensors as safetensors. None may share its memory with another."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def read_tensors(path: Path, device: str) -> dict[str, torch.Tensor]:
    """What `write_tensors` wrote, in memory of its own on `device`.

    Copied out of the file's mapping: its tensors start at any byte, and sums over unaligned memory
    may round differently from those of a run that was not stopped.
    """
    return {name: tensor.to(device, copy=True) for name, tensor in load_file(path).items()}


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name: what a checkpoint shares with the one before it."""
    try:
        os.link(source, target)
    except OSError:
        # Some network and foreign filesystems have no hard links; a full disk fails here, too.
        shutil.copyfile(source, target)
