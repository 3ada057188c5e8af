"""Journals of what MLflow has still to be told: one per tracked run, until all of it was sent.

Layout of `<home>/outbox`:

    <handle>.jsonl      the run's operations in order, one JSON document a line; only appended to
    <handle>.json       how much of it was sent, and the run's id at MLflow; replaced atomically
    <handle>.files/     files that an operation needs and that could vanish before it is sent
    refused/            operations that MLflow did not accept, with its reason (refused.py)

A journal belongs to one living process, which holds a lock of the operating system (flock) on it.
The lock ends with the process, however it ends, and then anyone may take the journal over.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tasks.home import Home
from tasks.tracking.outbox.journal import Journal, Operation, State, parsed, state_of


class Outbox:
    """The journals of a home."""

    def __init__(self, home: str | Path) -> None:
        self.home = Path(home).absolute()
        self.folder = Home(home).outbox

    def start(self, header: Operation) -> Journal:
        """A new journal, locked; `header` is the operation that creates the run.

        Raises OSError where the disk does not take it; then there is none.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = str(header["handle"])
        path = self.folder / f"{handle}.jsonl"
        draft = self.folder / f".{handle}.new"
        # Locked and with its first line before anyone can see it.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(draft, flags, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            journal = Journal(path, descriptor, header, State())
            journal.append(header)
            draft.rename(path)
        except BaseException:
            os.close(descriptor)
            draft.unlink(missing_ok=True)
            raise
        return journal

    def take(self, path: Path) -> Journal | None:
        """Take a journal over; None while a living process has it, or when it is gone.

        Raises OSError where its files cannot be opened.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been removed between the two calls.
            if os.fstat(descriptor).st_nlink == 0:
                raise FileNotFoundError(path)
            _cut_to_lines(descriptor)
            state = self.state(path.stem) or State()
            if state.offset > os.fstat(descriptor).st_size:
                # It is about another journal. Sending everything again does no harm.
                state = State(run_id=state.run_id, creating=True, doubtful=True)
            return Journal(path, descriptor, _header(path), state)
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise

    def is_free(self, path: Path) -> bool:
        """Whether no process has a journal; changes nothing, not even half a line."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return os.fstat(descriptor).st_nlink > 0
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)

    def paths(self) -> list[Path]:
        """All journals, parents before their children, and the oldest run first."""
        headers: dict[str, Operation] = {}
        for path in self.folder.glob("*.jsonl"):
            try:
                headers[path.stem] = _header(path)
            except FileNotFoundError:
                continue  # Another process has just sent the last of it.
            except OSError:
                headers[path.stem] = {}  # Whoever takes it will say what is wrong.

        def place(handle: str) -> tuple[int, int, str]:
            # Not by time alone: two runs begin in one millisecond, and a clock may be set back.
            depth, parent, time = 0, headers[handle].get("parent"), headers[handle].get("time")
            while parent in headers and depth < len(headers):
                depth, parent = depth + 1, headers[parent].get("parent")
            return depth, time if isinstance(time, int) else 0, handle

        return [self.folder / f"{handle}.jsonl" for handle in sorted(headers, key=place)]

    def state(self, handle: str) -> State | None:
        """How far a journal was sent; None when there is no such journal.

        Where that cannot be read, the run may be there, and everything is sent again.
        """
        path = self.folder / f"{handle}.jsonl"
        try:
            document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return State() if path.exists() else None
        except (OSError, ValueError):
            document = None
        return state_of(document) or State(creating=True, doubtful=True)

    def tidy(self) -> None:
        """Remove the journals that were sent completely and that no other names as its parent."""
        parents = dict(self._parents())
        # Children first: a parent stays as long as one of them names it.
        for path in reversed(list(parents)):
            state = self.state(path.stem)
            if state is None or not state.done or path.stem in parents.values():
                continue
            try:
                removed = self._remove(path)
            except OSError:
                continue  # It does no harm, and the others can go.
            if removed:
                del parents[path]

    def _remove(self, path: Path) -> bool:
        journal = self.take(path)
        if journal is None:
            return False
        try:
            shutil.rmtree(journal.held(""), ignore_errors=True)
            # Of a process that was killed while it wrote one.
            for draft in self.folder.glob(f".{path.stem}.*"):
                draft.unlink(missing_ok=True)
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)
        finally:
            journal.release()
        return True

    def _parents(self) -> Iterator[tuple[Path, str | None]]:
        for path in self.paths():
            try:
                yield path, _header(path).get("parent")
            except OSError:
                continue


def waiting(home: str | Path) -> int:
    """How many runs wait for `rosita sync`: not sent completely, and no process sends them."""
    outbox = Outbox(home)
    states = ((path, outbox.state(path.stem)) for path in outbox.paths())
    unsent = (path for path, state in states if state is not None and not state.done)
    return sum(outbox.is_free(path) for path in unsent)


def _cut_to_lines(descriptor: int) -> None:
    """Drop the part of a line that a process was writing when it was killed."""
    size = whole = os.fstat(descriptor).st_size
    while whole > 0 and os.pread(descriptor, 1, whole - 1) != b"\n":
        whole -= 1
    if whole < size:
        os.ftruncate(descriptor, whole)


def _header(path: Path) -> Operation:
    with path.open("rb") as file:
        return parsed(file.readline())
