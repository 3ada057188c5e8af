"""A process that trains along: it computes its share of every batch and keeps nothing.

It has no state of its own: where it goes on from, and when it ends, is the first process's affair.
See `tasks.execution.parallel`.
"""

import os
import sys
import threading
import traceback
from dataclasses import replace
from pathlib import Path

from rosita_core.training.checkpoints import NoCheckpoints
from rosita_core.training.group import joined
from tasks.execution.parallel import Share, device_of, ready_file
from tasks.execution.set_up import set_up
from tasks.execution.stage_inputs import StageInputs


class Given(NoCheckpoints):
    """The checkpoint that the first process goes on from; nothing is saved here."""

    def __init__(self, latest: Path | None) -> None:
        self._latest = latest

    def latest(self) -> Path | None:
        return self._latest


def main() -> None:
    """Take a share from stdin and train until the first process is done with it."""
    # Signals are ignored already: one to all processes of a service is for the first one, which
    # saves and ends the others.
    share = Share.of(sys.stdin.readline())
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    work = StageInputs(share.stage, share.context)
    placement = set_up(work)
    device = device_of(placement.device, share.rank)
    ready_file(share).touch()
    with joined(share.meeting, share.rank, share.size, device) as group:
        try:
            share.train(work, replace(placement, device=device, group=group), Given(share.latest))
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            # Before the connection closes, so that whoever hears of that finds the reason.
            os._exit(1)


def _end_with_the_first() -> None:
    """Stdin ends with the process that holds its other end, even where that is killed."""
    # Not through sys.stdin, whose lock this thread would keep when the interpreter ends.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)
