"""Operations that MLflow did not accept: kept with the reason, asked for again, removed when old.

`<home>/outbox/refused` has a file per run, a line per operation: why it was refused, the operation,
and what a new journal needs to know of the run. The files of a refused model lie beside it.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.home import Home
from tasks.store.artifacts import write_json
from tasks.tracking.outbox.box import Outbox
from tasks.tracking.outbox.journal import ENDS, Journal, Operation, State, copy_linked, parsed

# Of the operation that creates the run; its tags are at MLflow.
NEEDED = ("handle", "uri", "experiment", "parent", "name", "time")


def refuse(outbox: Outbox, journal: Journal, operation: Operation, why: str) -> Path:
    """Keep an operation that MLflow did not accept, with the reason; returns the file."""
    path = Home(outbox.home).refused / f"{journal.handle}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if "files" in operation:
        source, target = journal.held(operation["files"]), _files(path) / operation["files"]
        if source.is_dir() and not target.exists():
            scratch = Home(outbox.home).scratch
            scratch.mkdir(parents=True, exist_ok=True)
            copy_linked(source, target, scratch)
    record = {
        "why": why,
        "run_id": journal.state.run_id,
        "header": {name: journal.header.get(name) for name in NEEDED},
        "operation": operation,
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    return path


def refused(outbox: Outbox) -> int:
    """How many operations MLflow has refused."""
    return sum(len(_records(path)) for path in _paths(outbox))


def ask_again(outbox: Outbox) -> int:
    """Make journals of what was refused, to be sent like any other; returns how many.

    A run that has a journal already is left alone: that is sent first.
    """
    return sum(_ask_again(outbox, path) for path in _paths(outbox))


def removable(home: str | Path, older_than: float) -> list[Path]:
    """Old files and folders of the outbox that nobody will send.

    They are what MLflow refused, drafts of killed processes, and states and files without their
    journal. A journal that waits for `rosita sync` is none of them, however old.

    Args:
        older_than: seconds since 1970; what was changed at that time or later is not listed.
    """
    return sorted(path for path in _candidates(Home(home)) if _changed(path) < older_than)


def _ask_again(outbox: Outbox, path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Of two processes that do this at the same time, one does it.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        target = outbox.folder / path.name
        if os.fstat(descriptor).st_nlink == 0 or target.exists():
            return False
        return _make_journal(outbox, path, target)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _make_journal(outbox: Outbox, path: Path, target: Path) -> bool:
    records = _records(path)
    operations = list(_unique(record["operation"] for record in records))
    creations = [one for one in operations if one["op"] == "create"]
    run_id = next((record["run_id"] for record in reversed(records) if record["run_id"]), None)
    if creations:
        header, state = creations[0], State(creating=True)
    elif run_id is not None:
        header = {"op": "create", "tags": {}} | records[-1]["header"]
        state = State(run_id=run_id, sent=1, offset=len(_line(header)))
    else:
        return False
    ends = [one for one in operations if one["op"] in ENDS]
    between = [one for one in operations if one["op"] not in (*ENDS, "create")]
    # What has ended must not be ended as killed.
    lines = [header, *between, ends[-1] if ends else {"op": "resent"}]
    scratch = Home(outbox.home).scratch
    scratch.mkdir(parents=True, exist_ok=True)
    for folder in _files(path).glob("*"):
        copy = target.with_suffix(".files") / folder.name
        if not copy.exists():
            copy_linked(folder, copy, scratch)
    draft = target.with_name(f".{target.stem}.new")
    draft.write_bytes(b"".join(_line(one) for one in lines))
    # A journal with too old a state is sent again as a whole; the other way round it would be cut.
    write_json(target.with_suffix(".json"), asdict(state))
    draft.rename(target)
    path.unlink()
    shutil.rmtree(_files(path), ignore_errors=True)
    return True


def _unique(operations: Iterator[Operation]) -> Iterator[Operation]:
    """Every operation once; the values of a refused batch as one operation each."""
    seen: set[bytes] = set()
    for operation in operations:
        parts = [operation]
        if operation["op"] == "batch":
            parts = [
                {"op": kind, "values": {name: value}, "time": when, "step": step}
                for kind, (name, value, when, step) in operation["values"]
            ]
        for part in parts:
            if (line := _line(part)) not in seen:
                seen.add(line)
                yield part


def _paths(outbox: Outbox) -> list[Path]:
    return sorted(Home(outbox.home).refused.glob("*.jsonl"))


def _files(path: Path) -> Path:
    return path.with_suffix(".files")


def _records(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; one that a killed process left unfinished is left out."""
    found = []
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and {"run_id", "header", "operation"} <= set(record):
            found.append(record | {"operation": parsed(_line(record["operation"]))})
    return found


def _line(operation: Operation) -> bytes:
    return (json.dumps(operation) + "\n").encode()


def _candidates(home: Home) -> Iterator[Path]:
    folder = home.outbox
    yield from home.refused.glob("*")
    yield from folder.glob(".*")
    for path in (*folder.glob("[!.]*.json"), *folder.glob("[!.]*.files")):
        if not path.with_suffix(".jsonl").exists():
            yield path


def _changed(path: Path) -> float:
    """When something was added last; what is gone meanwhile is not old."""
    # The files of a refused model belong to the file that names them.
    record = path.with_suffix(".jsonl")
    try:
        times = [one.stat().st_mtime for one in (path, record) if one == path or one.exists()]
    except FileNotFoundError:
        return float("inf")
    return max(times)
