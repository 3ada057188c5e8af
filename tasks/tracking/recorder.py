"""What this process records, written into the home's own store of MLflow by a thread.

Whatever becomes of that store, recording fails no stage, and nothing waits for it but `flush`. A
process that is killed loses what it recorded in its last second.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.home import Home
from tasks.host.redaction import default_uri
from tasks.tracking.abandoned import hold
from tasks.tracking.background import Background
from tasks.tracking.errors import brief
from tasks.tracking.experiments import Experiments
from tasks.tracking.store import (
    AT_ONCE,
    End,
    NewRun,
    Refusal,
    Value,
    accepted,
    client_of,
    log_values,
    refusal,
    write_run,
)
from tasks.tracking.tags import RECORDER_TAG

# One transaction a step would be slow.
GATHER_SECONDS = 1.0
# Its tables may have to be made first.
PATIENCE = 8
# What is kept in memory while the store fails: an hour of a fast training.
MOST = 500_000
FULL = f"it takes nothing, and {MOST:,} values wait for it"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """Something to write of a run: that it began or ended, values, or an act that `name` names.

    A beginning, the values after it and an end are written together.
    """

    values: tuple[Value, ...] = ()
    began: NewRun | None = None
    ended: End | None = None
    act: Callable[[], object] | None = None
    name: str = ""


class Recorder:
    """Writes the runs of this process, what there is of each in its order."""

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        """`say` shows a line to the user."""
        self.home = home
        self._say = say
        self.id = uuid.uuid4().hex
        self.wrote: Callable[[str], None] = lambda run: None
        """Told of each run that something was written of."""
        lost = "what is recorded until it does is lost if the process ends"
        store = f"MLflow's store in {home}"
        self.thread = Background(store, lost, GATHER_SECONDS, PATIENCE, say)
        self.thread.serve = self._write_all
        self._experiments = Experiments(home, default_uri(home))
        self._of: dict[str, str] = {}
        self._queues: dict[str, deque[Entry]] = {}
        self._kept = 0
        self._dropped = False
        self._guard = threading.Lock()
        self._lock: int | None = None

    def start(self, run: str, experiment: str, name: str, began: int, tags: dict[str, str]) -> None:
        """Open a run; `began` is in milliseconds since 1970."""
        self._of[run] = experiment
        self.put(run, Entry(began=NewRun(run, name, began, tags | {RECORDER_TAG: self.id})))

    def has(self, run: str) -> bool:
        """Whether this process records the run."""
        return run in self._of

    def experiment(self, run: str) -> str:
        """The id of the experiment of a run of this process; for acts of its entries."""
        return self._experiments.id(client_of(default_uri(self.home)), self._of[run])

    def put(self, run: str, entry: Entry) -> None:
        """Write it soon. Raises ValueError for a run that this process does not record."""
        if run not in self._of:
            raise ValueError(f"run must be open in this process, got {run}")
        with self._guard:
            if self._kept > MOST and entry.values:
                if not self._dropped:
                    self._dropped = True
                    self._say(f"MLflow's store in {self.home} lacks metrics from here on: {FULL}")
                return
            self._queues.setdefault(run, deque()).append(entry)
            self._kept += len(entry.values)
        self.thread.touch(run)

    def leave(self) -> None:
        """Give the lock up at the end; what is still open is found without it."""
        if self._lock is not None:
            Home(self.home).recorder(self.id).unlink(missing_ok=True)

    def _write_all(self, run: str) -> None:
        if self._lock is None:
            self._lock = hold(self.home, self.id)
        while entries := self._next(run):
            for what, why in self._write(run, entries):
                logger.warning("MLflow does not accept %s of run %s: %s", what, run, brief(why))
            with suppress(OSError):
                os.utime(Home(self.home).recorder(self.id))
            with self._guard:
                for entry in entries:
                    self._queues[run].popleft()
                    self._kept -= len(entry.values)
            self.thread.progress()
            self.wrote(run)

    def _next(self, run: str) -> list[Entry]:
        """The next entries of a run that can be written at once."""
        with self._guard:
            entries: list[Entry] = []
            count = 0
            for entry in self._queues[run]:
                count += len(entry.values)
                if entries and (entry.act is not None or count > AT_ONCE):
                    break
                entries.append(entry)
                if entry.act is not None or entry.ended is not None:
                    break
            return entries

    def _write(self, run: str, entries: list[Entry]) -> list[Refusal]:
        client = client_of(default_uri(self.home))

        def repaired() -> bool:
            return self._experiments.repair(client, self._of[run])

        def refused(act: Callable[[], object], name: str) -> list[Refusal]:
            error = refusal(act, repaired)
            return [] if error is None else [(name, error)]

        first, values = entries[0], [value for entry in entries for value in entry.values]
        began, ended = first.began, entries[-1].ended
        if first.act is not None:
            return refused(first.act, first.name)
        if began is not None:
            new = False
            whole = accepted(values)

            def begin() -> None:
                nonlocal new
                now = ((), None) if whole is None else (whole, ended)
                new = write_run(self.home, self.experiment(run), began, *now)

            if refusals := refused(begin, f"the run {began.name}"):
                return refusals
            if new and whole is not None:
                return []
        refusals = log_values(client, run, values, repaired)
        if ended is not None:
            refusals += refused(lambda: client.set_terminated(run, *ended), "its end")
        return refusals
