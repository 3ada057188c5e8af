"""The journal of one tracked run: what MLflow has to be told of it, and how far it was told."""

import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tasks.store.artifacts import write_json

# The operations after which nothing of a run comes any more.
ENDS = ("terminate", "resent")

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
        self.ended = False
        """Its last operation was appended by this process."""
        self._late: list[bytes] = []
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._lock = threading.Lock()

    def append(self, operation: Operation) -> None:
        """Add an operation.

        Raises OSError where the disk does not take it; then it is kept in memory, and written in
        its order by the next `append` or `catch_up` for which there is room.
        """
        with self._lock:
            self._late.append((json.dumps(operation) + "\n").encode())
            self.ended = self.ended or operation["op"] in ENDS
            self._write_late()

    def catch_up(self) -> None:
        """Write what the disk did not take before. Raises OSError where it still does not."""
        with self._lock:
            self._write_late()

    def _write_late(self) -> None:
        if not self._late:
            return
        lines = b"".join(self._late)
        try:
            written = 0
            while written < len(lines):
                written += os.write(self._descriptor, lines[written:])
        except OSError:
            # Half a line would spoil the next one.
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(lines)
        self._late.clear()

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
                entries.append(Entry(parsed(line), end))
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
        if entries[-1].operation["op"] in ENDS:
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
        """Keep the files of a directory, not those of folders in it, for later; returns the name
        of the copy.

        The copy is made of links where the filesystem has them, so that it costs no space.
        """
        name = uuid.uuid4().hex
        copy_linked(source, self.held(name), scratch, ignore=_folders)
        return name

    def held(self, name: str) -> Path:
        """Where a copy made by `hold_files` is."""
        return self.path.with_suffix(".files") / name


def state_of(document: Any) -> State | None:
    """A state as `Journal.note` writes it; None for anything else."""
    if not isinstance(document, dict):
        return None
    known = {field.name for field in fields(State)}
    state = State(**{name: value for name, value in document.items() if name in known})
    numbers = (state.sent, state.offset)
    texts = (state.run_id is None or isinstance(state.run_id, str)) and (
        state.registered is None or isinstance(state.registered, dict)
    )
    return state if texts and all(type(n) is int and n >= 0 for n in numbers) else None


def parsed(line: bytes) -> Operation:
    """A line of a journal; one that is no operation becomes one that MLflow refuses."""
    try:
        operation = json.loads(line)
    except ValueError:
        operation = None
    if not isinstance(operation, dict) or "op" not in operation:
        return {"op": "unreadable", "text": line.decode(errors="replace")}
    return operation


def copy_linked(
    source: Path,
    target: Path,
    scratch: Path,
    ignore: Callable[[str, list[str]], list[str]] | None = None,
) -> None:
    """Copy a directory without taking space where the filesystem can, but what `ignore` names.

    It is made in `scratch`, on the same disk, and moved: the target is whole or not there.
    """
    draft = scratch / uuid.uuid4().hex
    try:
        shutil.copytree(source, draft, copy_function=_link, ignore=ignore)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _folders(place: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(place) / name).is_dir()]


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
