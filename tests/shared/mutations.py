"""Generated damage to every kind of file of a home and of a shared store, and the law that holds.

Whatever bytes lie there, the outcome is a verified hit, or a miss that says why and after which the
stage can be computed and found: in bounded time, with no code run and no file written elsewhere.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contexts import stage_context
from hypothesis import strategies as st
from prefect import task
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore

from flows.maintenance.doctor_home import check_attempts, check_checkpoints, check_store
from flows.maintenance.gc import find_garbage
from rosita_core.training.progress import Progress
from tasks.cache.checkpoints import StageCheckpoints, newest
from tasks.cache.documents import StageResult
from tasks.cache.metric_history import observations
from tasks.cache.policy import StageResultSerializer, stage_options
from tasks.cache.records import (
    attempts,
    inspect_record,
    makers,
    record_content,
    unreadable_attempts,
)
from tasks.cache.shared_records import SharedStore, look, look_quickly, obtain, shared_store
from tasks.cache.shared_turn import shared_turn
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import Context, carry_out
from tasks.execution.work import Computed, Work
from tasks.home import Home
from tasks.store.artifacts import Store
from tasks.store.json_files import CONTENT, DIGEST, sealed, write_whole

SECONDS = 20.0
"""Far more than an example takes, and less than an outage of the shared store is waited for."""
NUMERICS = {"device": "cpu", "precision": "fp32", "hardware": "AVX2", "deterministic": True}
WEIGHTS = b"0123456789"
ESCAPED = "/tmp/escaped-from-a-home"


@dataclass(frozen=True)
class Settings:
    rate: float


STAGE = Stage("student", ("rosita_core.stages",), Settings(1.0), {}, NUMERICS)
KEY = STAGE.key


@task
def student(stage: Stage, context: Context) -> StageResult:
    return carry_out(kernel, stage, context)


def kernel(work: Work) -> Computed:
    work.report(Progress(1, 1, {"train/loss": work.stage.config.rate}, None, None))
    with work.output() as folder:
        (folder / "weights.bin").write_bytes(WEIGHTS)
        (folder / "deeper").mkdir()
        (folder / "deeper" / "config.json").write_text("{}")
    return work.computed({"score": 0.5, "shape": "a2"})


class Place:
    """A home and a shared folder in the middle of a folder that nothing else may be written to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "a" / "b" / "c" / "home"
        self.shared = root / "a" / "b" / "c" / "shared"

    def make(self) -> None:
        """One finished stage, shared; the checkpoint of one that was stopped, here and there."""
        with sharing(self.shared):
            compute(self.home)
            save_checkpoint(self.home)
            store = SharedStore(shared_store(self.home).files, self.home)  # type: ignore[union-attr]
            result, _ = inspect_record(self.home, KEY, STAGE.name)
            assert result is not None
            store.publish(result)
            saved = newest(Home(self.home).checkpoints_of(KEY))
            assert saved is not None
            store.send_checkpoint(KEY, saved.path)

    def copied(self, root: Path) -> Place:
        shutil.copytree(self.root, root)
        for path in root.rglob("*"):
            path.chmod(path.stat().st_mode | 0o200)
        return Place(root)

    def elsewhere(self) -> set[str]:
        """Every file that is neither in the home nor in the shared folder."""
        return {
            str(path)
            for path in self.root.rglob("*")
            if self.home not in (path, *path.parents) and self.shared not in (path, *path.parents)
        }


@contextmanager
def sharing(folder: Path | None) -> Iterator[None]:
    before = os.environ.pop("ROSITA_STORE", None)
    if folder is not None:
        os.environ["ROSITA_STORE"] = f"file://{folder}"
    try:
        yield
    finally:
        os.environ.pop("ROSITA_STORE", None)
        if before is not None:
            os.environ["ROSITA_STORE"] = before


def compute(home: Path) -> StageResult:
    """What Prefect does for a stage without a record, with no server to report to."""
    result: StageResult = student.fn(STAGE, stage_context(home, None))
    write_whole(Home(home).results / KEY, record_content(result))
    return result


def save_checkpoint(home: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "state.json").write_text("{}")

    kept = StageCheckpoints(Home(home).checkpoints_of(KEY), STAGE.name, 60, None, False)
    kept.save(4, 10, write)


# Files by their kind, below the folder of a `Place`; there is one of each.
HOME, SHARED = "a/b/c/home", "a/b/c/shared"
FILES = {
    "record": f"{HOME}/results/*",
    "manifest": f"{HOME}/store/*/manifest.json",
    "content": f"{HOME}/store/*/files/weights.bin",
    "provenance": f"{HOME}/store/*/provenance/*.json",
    "attempt": f"{HOME}/attempts/student/000001.json",
    "history": f"{HOME}/attempts/student/000001.history.jsonl",
    "about": f"{HOME}/checkpoints/*/000001/about.json",
    "checkpoint manifest": f"{HOME}/checkpoints/*/000001/manifest.json",
    "checkpoint content": f"{HOME}/checkpoints/*/000001/files/state.json",
    "shared record": f"{SHARED}/results/*.json",
    "shared manifest": f"{SHARED}/artifacts/*/manifest.json",
    "shared content": f"{SHARED}/artifacts/*/files/weights.bin",
    "shared about": f"{SHARED}/checkpoints/*/000001/about.json",
    "shared checkpoint manifest": f"{SHARED}/checkpoints/*/000001/manifest.json",
    "shared checkpoint content": f"{SHARED}/checkpoints/*/000001/files/state.json",
}


class Canary:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.path),)


def prefects_own(root: Path) -> bytes:
    """A record that names the serializer that it wants to be read with."""
    import base64

    code = base64.encodebytes(pickle.dumps(Canary(f"{root}/ran"))).decode()
    metadata = {"serializer": {"type": "pickle", "picklelib": "pickle"}, "storage_key": KEY}
    return json.dumps({"metadata": metadata, "result": code}).encode()


TEXTS = ("../../../../escaped", ESCAPED, "teacher", "0" * 64, "", "soon\n", "\ud800")
NUMBERS = (-1, 0, 10**30, 0.5, float("nan"), float("inf"))
OTHERS: tuple[Any, ...] = (
    *(
        None,
        True,
        [],
        {},
        [[]],
        {"": {}},
        {"type": "pickle"},
        {"__class__": "os.system", "data": ""},
    ),
    *([["a", 1, "0" * 64], ["a/b", 1, "0" * 64]],),
)
BYTES = (b"", b"\xff\xfe", b"null", b"[]", b"{}", b"[" * 100_000, b"9" * 5000, b'{"content": 1}')


@dataclass(frozen=True)
class Mutation:
    """Damage to one file.

    Attributes:
        kind: of file, of `FILES`.
        how: of `HOWS`.
        where: which of its bytes or values, counted round.
        value: which one comes in its place, counted round.
        resealed: whether a document with its own digest gets the one that fits again.
    """

    kind: str
    how: str
    where: int
    value: int
    resealed: bool

    def apply(self, root: Path) -> None:
        [path] = root.glob(FILES[self.kind])
        HOWS[self.how](self, path, root)


def _flip(mutation: Mutation, path: Path, root: Path) -> None:
    content = bytearray(path.read_bytes())
    content[mutation.where % len(content)] ^= 1 << mutation.value % 8
    path.write_bytes(content)


def _cut(mutation: Mutation, path: Path, root: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: mutation.where % len(content)])


def _replace(mutation: Mutation, path: Path, root: Path) -> None:
    path.write_bytes(BYTES[mutation.value % len(BYTES)])


def _remove(mutation: Mutation, path: Path, root: Path) -> None:
    path.unlink()


def _folder(mutation: Mutation, path: Path, root: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").touch()


def _pipe(mutation: Mutation, path: Path, root: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _pickled(mutation: Mutation, path: Path, root: Path) -> None:
    path.write_bytes(prefects_own(root))


def _changed(mutation: Mutation, path: Path, root: Path) -> None:
    """One value of a JSON document is another, or one is left out."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        _flip(mutation, path, root)
        return
    places = sorted(_places(document, 0), key=lambda place: place[0])
    if not places:
        path.write_text(json.dumps(_another(document, mutation.value)), encoding="utf-8")
        return
    # Most values lie deep in a document, and most fields do not.
    if mutation.where % 4:
        places = [place for place in places if place[0] <= 2]
    _, holder, name = places[mutation.where // 4 % len(places)]
    if mutation.value % 8:
        holder[name] = _another(holder[name], mutation.value // 8)
    else:
        del holder[name]
    is_sealed = isinstance(document, dict) and document.keys() == {CONTENT, DIGEST}
    if is_sealed and mutation.resealed:
        path.write_bytes(sealed(document[CONTENT]))
    else:
        path.write_text(json.dumps(document), encoding="utf-8")


def _another(value: Any, number: int) -> Any:
    """Mostly of the same kind: what has another one is easily refused."""
    alike = (
        TEXTS if isinstance(value, str) else NUMBERS if isinstance(value, int | float) else OTHERS
    )
    choices = alike if number % 4 else (*TEXTS, *NUMBERS, *OTHERS)
    return choices[number // 4 % len(choices)]


def _places(value: Any, depth: int) -> Iterator[tuple[int, Any, Any]]:
    """How deep each value of a document lies, its container, and its name or number there."""
    if not isinstance(value, dict | list):
        return
    for name, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield depth, value, name
        yield from _places(inner, depth + 1)


HOWS: dict[str, Callable[[Mutation, Path, Path], None]] = {
    "changed": _changed,
    "flipped": _flip,
    "cut": _cut,
    "replaced": _replace,
    "removed": _remove,
    "a folder": _folder,
    "a pipe": _pipe,
    "pickled": _pickled,
}

mutations = st.builds(
    Mutation,
    # Nearly everything is JSON, and most can be said in it.
    kind=st.sampled_from(sorted(FILES)),
    how=st.sampled_from(["changed"] * 3 * len(HOWS) + sorted(HOWS)),
    where=st.integers(0, 2**16),
    value=st.integers(0, 2**16),
    # What does not fit its digest is looked at no further.
    resealed=st.sampled_from([True, True, True, False]),
)


@contextmanager
def made_place() -> Iterator[Place]:
    """A place to be copied and damaged, in memory where the system has a folder there."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        place = Place(Path(folder) / "made")
        place.make()
        yield place


def check(made: Place, mutation: Mutation) -> None:
    """The law, for one mutation of a copy of what was made."""
    root = made.root.with_name("mutated")
    shutil.rmtree(root, ignore_errors=True)
    place = made.copied(root)
    before = place.elsewhere()
    if "checkpoint" in mutation.kind or "about" in mutation.kind:
        # Who finds a result looks at no checkpoint.
        for kind in ("record", "shared record"):
            next(root.glob(FILES[kind])).unlink()
    mutation.apply(root)
    began = time.monotonic()
    of_home = not mutation.kind.startswith("shared")
    # What is damaged in a home may be fetched again, or there is nothing to fetch it from.
    alone = of_home and mutation.where % 2 == 0
    home = place.home if of_home else place.home / "other"
    with sharing(None if alone else place.shared):
        _look(home)
        with shared_turn(home, STAGE.name, KEY, False) as turn:
            result = hit_or_computed(home)
            if turn is not None:
                turn.publish(result)
        if not alone:
            # What could not be used was set aside, so that the next one finds a whole result.
            found, problem = obtain(place.home / "third", KEY, STAGE.name)
            assert found is not None, problem
    assert time.monotonic() - began < SECONDS
    assert place.elsewhere() == before
    assert not Path(ESCAPED).exists()


def _look(home: Path) -> None:
    """Every way of looking, none of which raises; who finds something finds the truth."""
    for find in (inspect_record, look, look_quickly, obtain):
        result, problem = find(home, KEY, STAGE.name)
        assert result is None or (result.key, result.stage, problem) == (KEY, STAGE.name, None)
        if result is not None and find in (inspect_record, obtain):
            _is_whole(home, result)
    for record in attempts(home, STAGE.name):
        observations(home, STAGE.name, record["number"], KEY)
    unreadable_attempts(home)
    for artifact in Store(home).digests():
        makers(home, artifact)
    newest(Home(home).checkpoints_of(KEY))
    find_garbage(home, 0)
    for check_part in (check_store, check_checkpoints, check_attempts):
        check_part(home)


def _is_whole(home: Path, result: StageResult) -> None:
    assert Store(home).verify(result.artifact) is None
    assert (Store(home).path(result.artifact) / "weights.bin").read_bytes() == WEIGHTS


def _checkpoints(home: Path) -> None:
    """Going on from a checkpoint, or beginning anew."""
    found = StageCheckpoints(Home(home).checkpoints_of(KEY), STAGE.name, 60, None, False)
    latest = found.latest()
    assert latest is None or (latest / "state.json").read_text() == "{}"


def hit_or_computed(home: Path) -> StageResult:
    """As Prefect does: with the lock, by its own reading of results."""
    options = stage_options(home, STAGE)
    policy = options["cache_policy"]
    results = ResultStore(
        result_storage=LocalFileSystem(basepath=str(options["result_storage"])),
        metadata_storage=policy.key_storage,
        lock_manager=policy.lock_manager,
        serializer=StageResultSerializer(),
        cache_result_in_memory=False,
    )
    assert results.acquire_lock(KEY, "test")
    try:
        if results.exists(KEY):
            result = results.read(KEY, "test").result
        else:
            _checkpoints(home)
            result = student.fn(STAGE, stage_context(home, None))
            results.write(result, KEY, holder="test")
    finally:
        results.release_lock(KEY, "test")
    assert inspect_record(home, KEY, STAGE.name) == (result, None)
    _is_whole(home, result)
    return result
