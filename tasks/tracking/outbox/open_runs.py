"""The journals that this process writes. Whatever the disk does, writing them fails no stage."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from tasks.home import Home
from tasks.tracking.outbox.box import Outbox
from tasks.tracking.outbox.errors import brief
from tasks.tracking.outbox.journal import Journal, Operation, State


class OpenRuns:
    """The runs of one sender: those that are open, and what is remembered of the others."""

    def __init__(self, outbox: Outbox, say: Callable[[str], None]) -> None:
        """`say` shows a line to the user: the disk does not take what is recorded."""
        self._outbox = outbox
        self._say = say
        self._journals: dict[str, Journal] = {}
        self._sent: dict[str, State] = {}
        self._unopened: set[str] = set()
        self._disk_full = False
        self._guard = threading.Lock()

    def open(self, header: Operation) -> None:
        """Open the journal of a new run; `header` creates the run.

        Where the disk does not take it, the user is told, and the run will not be at MLflow.
        """
        try:
            journal = self._outbox.start(header)
        except OSError as error:
            with self._guard:
                self._unopened.add(str(header["handle"]))
            self._not_written(error, f"{header.get('name')} will not be in MLflow")
            return
        with self._guard:
            self._journals[journal.handle] = journal

    def append(self, handle: str, operation: Operation) -> None:
        """Add an operation to a journal. Raises ValueError for one that this process has not.

        What the disk does not take is kept in memory and written later; the user is told once.
        """
        if (journal := self._journal(handle)) is None:
            return
        try:
            journal.append(operation)
            self._disk_full = False
        except OSError as error:
            self._not_written(error, "what is recorded until it can be is lost if the process ends")

    def header(self, handle: str) -> Operation | None:
        """The operation that creates a run; None for one that could not be opened.

        Raises ValueError when this process has no such run.
        """
        journal = self._journal(handle)
        return None if journal is None else journal.header

    def hold_files(self, handle: str, source: Path) -> str | None:
        """Keep the files of a directory for a run; None where that cannot be, and the user is told.

        Raises ValueError when this process has no such run.
        """
        if (journal := self._journal(handle)) is None:
            return None
        # On the home's disk: the system's temporary folder may be memory.
        scratch = Home(self._outbox.home).scratch
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            return journal.hold_files(source, scratch)
        except OSError as error:
            self._not_written(error, "the model will not be in MLflow")
            return None

    def has(self, handle: str) -> bool:
        """Whether this process writes the run."""
        with self._guard:
            return handle in self._journals or handle in self._unopened

    def ended(self, handle: str) -> bool:
        """Whether the last operation of a run of this process was appended."""
        with self._guard:
            if handle in self._journals:
                return self._journals[handle].ended
            return handle in self._sent

    def state(self, handle: str) -> State | None:
        """How far a run of this process was sent; None for any other run."""
        with self._guard:
            if handle in self._journals:
                return self._journals[handle].state
            return self._sent.get(handle)

    def journals(self) -> list[Journal]:
        """Those that are open."""
        with self._guard:
            return list(self._journals.values())

    def let_go(self, journals: Iterable[Journal]) -> None:
        """Forget what was sent to its end."""
        with self._guard:
            for journal in journals:
                self._sent[journal.handle] = self._journals.pop(journal.handle).state
                journal.release()

    def _journal(self, handle: str) -> Journal | None:
        with self._guard:
            if handle in self._unopened:
                return None
            if handle not in self._journals:
                raise ValueError(f"run must be open in this process, got {handle}")
            return self._journals[handle]

    def _not_written(self, error: OSError, consequence: str) -> None:
        first, self._disk_full = not self._disk_full, True
        if first:
            self._say(
                f"the outbox in {self._outbox.folder} cannot be written ({brief(error)}); "
                f"the run goes on, and {consequence}"
            )
