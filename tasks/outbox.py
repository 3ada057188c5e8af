"""What MLflow has still to be told: a journal per tracked run, on disk until all of it was sent.

Layout of `<home>/outbox`:

    <handle>.jsonl      the run's operations in order, one JSON document a line; only appended to
    <handle>.json       how much of it was sent, and the run's id at MLflow; replaced atomically
    <handle>.files/     files that an operation needs and that could vanish before it is sent
    refused/            operations that MLflow did not accept, with its reason

A journal belongs to one living process, which holds a lock of the operating system (flock) on it.
The lock ends with the process, however it ends, and then anyone may take the journal over.
"""

import fcntl
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tasks.store import write_json

OUTBOX = "outbox"
REFUSED = "refused"

Operation = dict[str, Any]


@dataclass
class State:
    """How far a journal was sent."""

    run_id: str | None = None
    """The run's id at MLflow, once it is known."""
    sent: int = 0
    """Operations."""
    offset: int = 0
    """Bytes of the journal that they take."""
    creating: bool = False
    """The run may be at MLflow although its id is not known here."""
    doubtful: bool = False
    """A request to create the run went unanswered, and may still be carried out."""
    registered: dict[str, str] | None = None
    """Name, version, id and address of the registered model."""
    done: bool = False
    """The run is closed and everything was sent."""


@dataclass(frozen=True)
class Entry:
    """An operation of a journal and where the next one begins."""

    operation: Operation
    end: int


class Journal:
    """The operations of one run. Made by an Outbox; holds the lock until `release`."""

    def __init__(self, path: Path, descriptor: int, header: Operation, state: State) -> None:
        self.path = path
        self.handle = path.stem
        self.header = header
        """The first operation, which creates the run."""
        self.state = state
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._lock = threading.Lock()

    def append(self, operation: Operation) -> None:
        """Add an operation. Raises OSError where the disk does not take it."""
        line = (json.dumps(operation) + "\n").encode()
        with self._lock:
            try:
                written = 0
                while written < len(line):
                    written += os.write(self._descriptor, line[written:])
            except OSError:
                # Half a line would spoil the next one.
                os.ftruncate(self._descriptor, self._size)
                raise
            self._size += len(line)

    @property
    def waiting(self) -> bool:
        """Whether something was not sent."""
        return self.state.offset < self._size

    def unsent(self, limit: int) -> list[Entry]:
        """The next operations, at most so many; half a line is not one."""
        entries: list[Entry] = []
        with self.path.open("rb") as file:
            file.seek(self.state.offset)
            end = self.state.offset
            while len(entries) < limit and (line := file.readline()).endswith(b"\n"):
                end += len(line)
                entries.append(Entry(_parsed(line), end))
        return entries

    def left(self) -> int:
        """How many operations were not sent."""
        with self.path.open("rb") as file:
            file.seek(self.state.offset)
            return sum(line.endswith(b"\n") for line in file)

    def advance(self, entries: list[Entry]) -> None:
        """Note that these operations, the next ones, are dealt with."""
        self.state.sent += len(entries)
        self.state.offset = entries[-1].end
        if entries[-1].operation["op"] == "terminate":
            self.state.done = True
        self.note()

    def note(self) -> None:
        """Write the state down."""
        write_json(self.path.with_suffix(".json"), asdict(self.state))

    def release(self) -> None:
        """Give the lock up; the journal is not used any more by this process."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def hold_files(self, source: Path, scratch: Path) -> str:
        """Keep the files of a directory for later; returns the name of the copy.

        The copy is made of links where the filesystem has them, so that it costs no space. It is
        made in `scratch` and then moved, so that it is whole or not there.
        """
        name = uuid.uuid4().hex
        draft = scratch / name
        try:
            shutil.copytree(source, draft, copy_function=_link)
            folder = self.held("")
            folder.mkdir(exist_ok=True)
            draft.rename(folder / name)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return name

    def held(self, name: str) -> Path:
        """Where a copy made by `hold_files` is."""
        return self.path.with_suffix(".files") / name


class Outbox:
    """The journals of a home."""

    def __init__(self, home: str | Path) -> None:
        self.home = Path(home).absolute()
        self.folder = self.home / OUTBOX

    def start(self, header: Operation) -> Journal:
        """A new journal, locked; `header` is the operation that creates the run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = str(header["handle"])
        path = self.folder / f"{handle}.jsonl"
        draft = self.folder / f".{handle}.new"
        # Locked and with its first line before anyone can see it.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(draft, flags, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        journal = Journal(path, descriptor, header, State())
        journal.append(header)
        draft.rename(path)
        return journal

    def take(self, path: Path) -> Journal | None:
        """Take a journal over; None while a living process has it, or when it is gone."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been removed between the two calls.
            gone = os.fstat(descriptor).st_nlink == 0
        except BlockingIOError:
            gone = True
        if gone:
            os.close(descriptor)
            return None
        _cut_to_lines(descriptor)
        return Journal(path, descriptor, _header(path), self.state(path.stem) or State())

    def paths(self) -> list[Path]:
        """All journals, the oldest run first and a parent before its children."""
        found: list[tuple[int, bool, Path]] = []
        for path in self.folder.glob("*.jsonl"):
            try:
                header = _header(path)
                found.append((int(header.get("time", 0)), header.get("parent") is not None, path))
            except FileNotFoundError:
                continue  # Another process has just sent the last of it.
        return [path for _, _, path in sorted(found)]

    def state(self, handle: str) -> State | None:
        """How far a journal was sent; None when there is no such journal."""
        path = self.folder / f"{handle}.jsonl"
        try:
            document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return State() if path.exists() else None
        known = {field.name for field in fields(State)}
        return State(**{name: value for name, value in document.items() if name in known})

    def refuse(self, handle: str, run_id: str | None, operation: Operation, why: str) -> Path:
        """Keep what MLflow did not accept, with its reason; returns the file."""
        path = self.folder / REFUSED / f"{handle}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"why": why, "run_id": run_id, "operation": operation}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        return path

    def tidy(self) -> None:
        """Remove the journals that were sent completely and that no other names as its parent."""
        parents = dict(self._parents())
        # Children are younger than their parents.
        for path in reversed(list(parents)):
            state = self.state(path.stem)
            if state is None or not state.done or path.stem in parents.values():
                continue
            journal = self.take(path)
            if journal is None:
                continue
            shutil.rmtree(journal.held(""), ignore_errors=True)
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)
            journal.release()
            del parents[path]

    def _parents(self) -> Iterator[tuple[Path, str | None]]:
        for path in self.paths():
            try:
                yield path, _header(path).get("parent")
            except FileNotFoundError:
                continue


def waiting(home: str | Path) -> int:
    """How many runs wait for `rosita sync`: not sent completely, and no process sends them."""
    outbox = Outbox(home)
    count = 0
    for path in outbox.paths():
        state = outbox.state(path.stem)
        if state is None or state.done:
            continue
        journal = outbox.take(path)
        if journal is not None:
            count += 1
            journal.release()
    return count


def _cut_to_lines(descriptor: int) -> None:
    """Drop the part of a line that a process was writing when it was killed."""
    size = whole = os.fstat(descriptor).st_size
    while whole > 0 and os.pread(descriptor, 1, whole - 1) != b"\n":
        whole -= 1
    if whole < size:
        os.ftruncate(descriptor, whole)


def _header(path: Path) -> Operation:
    with path.open("rb") as file:
        return _parsed(file.readline())


def _parsed(line: bytes) -> Operation:
    try:
        operation = json.loads(line)
    except ValueError:
        operation = None
    if not isinstance(operation, dict) or "op" not in operation:
        return {"op": "unreadable", "text": line.decode(errors="replace")}
    return operation


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
