"""Results, artifacts and checkpoints that machines share; the home is the cache in front of them.

Layout below the URL of `ROSITA_STORE`:

    artifacts/<digest>/files/...                  as in the local store
    artifacts/<digest>/manifest.json              written last: without it there is no artifact
    results/<stage key>.json                      written after its artifact
    checkpoints/<stage key>/<number>/files/...    the newest of a stage that is unfinished
    checkpoints/<stage key>/<number>/manifest.json
    checkpoints/<stage key>/<number>/about.json   written last
    locks/<stage key>/<number>                    see `tasks.store.shared_lease`
    damaged/...                                   records and manifests of what failed verification

Nothing of it is ever used without being verified against its digest in a local folder.
"""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.cache.checkpoints import ABOUT, PARTIAL, checkpoints_folder, newest
from tasks.cache.metric_history import fetched_history_path, observations
from tasks.cache.records import (
    StageResult,
    inspect_record,
    parse_record,
    read_record,
    results_folder,
)
from tasks.store.artifacts import (
    FILES,
    MANIFEST,
    Manifest,
    Store,
    json_digest,
    manifest_problem,
    write_json,
)
from tasks.store.shared_files import SharedFiles, SharedStoreError, shared_files

ARTIFACTS, CHECKPOINTS, DAMAGED, RESULTS = "artifacts", "checkpoints", "damaged", "results"


class SharedStore:
    """What lies below one URL, for one home."""

    def __init__(self, files: SharedFiles, home: Path) -> None:
        self.files = files
        self.home = Path(home).absolute()
        self.store = Store(self.home)

    def record(self, key: str) -> tuple[StageResult | None, dict[str, Any], str | None]:
        """The result, the document that it came in, and what is wrong with it."""
        content = self.files.read(_result(key))
        if content is None:
            return None, {}, None
        try:
            document = json.loads(content)
            record, problem = parse_record(json.dumps(document["record"]), key)
            complete = "metadata" in document["record"] and "provenance" in document
        except (ValueError, KeyError, TypeError):
            return None, {}, "its shared record is not readable JSON"
        if problem is None and not complete:
            problem = "its record is not complete"
        if problem is not None:
            return None, {}, f"{problem} (in the shared store)"
        return record, document, None

    def look(self, key: str) -> tuple[StageResult | None, str | None]:
        """As `tasks.cache.records.inspect_record`, but of the shared store, and without fetching.

        Of the artifact, names and sizes are compared; its bytes are when it is fetched.
        """
        record, _, problem = self.record(key)
        if record is None:
            return None, problem
        manifest, problem = self._manifest(record.artifact)
        if manifest is None:
            return None, problem
        sizes = self.files.sizes(f"{ARTIFACTS}/{record.artifact}/{FILES}")
        for name, size, _ in manifest:
            if sizes.get(str(name)) != size:
                found = f"{sizes[str(name)]} bytes" if str(name) in sizes else "nothing"
                return None, f"its shared copy has {found} instead of {size} in {name}"
        return record, None

    def fetch(self, key: str) -> tuple[StageResult | None, str | None]:
        """Bring a result and its artifact into the home.

        (result, None) when it is there and whole now, (None, None) when the shared store has none,
        (None, problem) when what it has cannot be used.
        """
        record, document, problem = self.record(key)
        if record is None:
            return None, problem
        if self.store.verify(record.artifact) is not None:
            problem = self._fetch_artifact(record.artifact)
            if problem is not None:
                return None, problem
        if document["provenance"] is not None:
            self.store.write_provenance(record.artifact, document["provenance"])
        path = results_folder(self.home) / key
        # Prefect looks for the result where the record says that it lies.
        document["record"]["metadata"]["storage_key"] = str(path)
        write_json(path, document["record"])
        if lines := document.get("history"):
            place = fetched_history_path(self.home, record.stage, key)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        return record, None

    def has(self, key: str) -> bool:
        """Whether it has a result; nothing is verified."""
        return self.files.read(_result(key)) is not None

    def publish(self, record: StageResult) -> int:
        """Put a result of the home there, its artifact first; the bytes that were sent."""
        sent = self._publish_artifact(record.artifact)
        text = (results_folder(self.home) / record.key).read_text(encoding="utf-8")
        document = json.loads(text)
        # A path of this machine is of no use to another one.
        document["metadata"]["storage_key"] = record.key
        notes = self.store.provenance(record.artifact).get(record.key)
        seen = observations(self.home, record.stage, record.attempt, record.key)
        shared = {"record": document, "provenance": notes, "history": seen}
        content = json.dumps(shared, indent=1)
        self.files.write(_result(record.key), content.encode())
        return sent

    def set_aside(self, key: str) -> None:
        """Take a result that cannot be used, and its artifact, out of use."""
        record, _, _ = self.record(key)
        number = uuid.uuid4().hex
        self.files.move(_result(key), f"{DAMAGED}/{key}-{number}.json")
        if record is not None:
            folder = f"{ARTIFACTS}/{record.artifact}"
            self.files.move(f"{folder}/{MANIFEST}", f"{DAMAGED}/{record.artifact}-{number}.json")

    def send_checkpoint(self, key: str, path: Path) -> bool:
        """Keep a local checkpoint there, as the only one; False where it was removed meanwhile."""
        folder = f"{CHECKPOINTS}/{key}"
        try:
            for local in sorted((path / FILES).rglob("*")):
                if local.is_file():
                    self.files.put(local, f"{folder}/{path.name}/{local.relative_to(path)}")
            for name in (MANIFEST, ABOUT):
                self.files.write(f"{folder}/{path.name}/{name}", (path / name).read_bytes())
        except FileNotFoundError:
            self.files.remove(f"{folder}/{path.name}")
            return False
        for name in self.files.names(folder):
            if name != path.name:
                self.files.remove(f"{folder}/{name}")
        return True

    def fetch_checkpoint(self, key: str, again: bool) -> int | None:
        """Bring the newest checkpoint of a stage into the home, where it is ahead of what is there.

        It is verified when the stage goes on from it. Returns the units that were done in it, or
        None where nothing was fetched.

        Args:
            again: whether the stage is computed again on purpose; it goes on from a checkpoint of
                such an attempt only.
        """
        folder = f"{CHECKPOINTS}/{key}"
        for name in reversed(self.files.names(folder)):
            content = self.files.read(f"{folder}/{name}/{ABOUT}")
            listed = self.files.read(f"{folder}/{name}/{MANIFEST}")
            if content is None or listed is None or not name.isdigit():
                continue
            about, manifest = json.loads(content), json.loads(listed)
            target = checkpoints_folder(self.home, key)
            here = newest(target)
            if (again and not about["again"]) or (here and here.unit >= int(about["unit"])):
                return None
            last = 0 if here is None else int(here.path.name)
            partial = target / f"{PARTIAL}shared-{uuid.uuid4().hex}"
            try:
                for entry in manifest:
                    inner = f"{FILES}/{_safe(entry[0])}"
                    self.files.get(f"{folder}/{name}/{inner}", partial / inner)
                write_json(partial / MANIFEST, manifest)
                write_json(partial / ABOUT, about)
                partial.rename(target / f"{max(int(name), last + 1):06d}")
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            return int(about["unit"])
        return None

    def drop_checkpoints(self, key: str) -> None:
        """Remove those of a stage that is done."""
        self.files.remove(f"{CHECKPOINTS}/{key}")

    def _manifest(self, digest: str) -> tuple[Manifest | None, str | None]:
        content = self.files.read(f"{ARTIFACTS}/{digest}/{MANIFEST}")
        if content is None:
            return None, f"the shared copy of artifact {digest[:12]} has no {MANIFEST}"
        try:
            manifest: Manifest = json.loads(content)
        except ValueError:
            return None, f"{MANIFEST} of the shared copy of {digest[:12]} is not readable JSON"
        if json_digest(manifest) != digest:
            return None, f"{MANIFEST} of the shared copy of {digest[:12]} has another digest"
        return manifest, None

    def _fetch_artifact(self, digest: str) -> str | None:
        """Download, verify and adopt an artifact; what is wrong with it, or None."""
        manifest, problem = self._manifest(digest)
        if manifest is None:
            return problem
        with self.store.workspace() as files:
            for name, _, _ in manifest:
                self.files.get(f"{ARTIFACTS}/{digest}/{FILES}/{_safe(name)}", files / str(name))
            write_json(files.parent / MANIFEST, manifest)
            problem = manifest_problem(files.parent, digest)
            if problem is not None:
                return f"the shared copy of artifact {digest[:12]}: {problem}"
            self.store.adopt(files)
        return None

    def _publish_artifact(self, digest: str) -> int:
        folder = f"{ARTIFACTS}/{digest}"
        if self.files.read(f"{folder}/{MANIFEST}") is not None:
            return 0
        source = self.store.path(digest)
        manifest: Manifest = json.loads((source.parent / MANIFEST).read_text(encoding="utf-8"))
        for name, _, _ in manifest:
            self.files.put(source / str(name), f"{folder}/{FILES}/{name}")
        self.files.write(f"{folder}/{MANIFEST}", json.dumps(manifest).encode())
        return sum(int(size) for _, size, _ in manifest)


def shared_store(home: Path) -> SharedStore | None:
    """The shared store of this process, for a home; None where ROSITA_STORE is not set."""
    files = shared_files()
    return None if files is None else SharedStore(files, home)


def look(home: Path, key: str) -> tuple[StageResult | None, str | None]:
    """As `inspect_record`, with the shared store behind the home. Fetches and writes nothing."""
    record, problem = inspect_record(home, key)
    shared = None if record is not None else shared_store(home)
    if shared is None:
        return record, problem
    found, there = shared.look(key)
    return (found, None) if found is not None else (None, problem or there)


def look_quickly(home: Path, key: str) -> tuple[StageResult | None, str | None]:
    """As `look`, but artifacts are not looked at."""
    record, problem = read_record(home, key)
    shared = None if record is not None else shared_store(home)
    if shared is None:
        return record, problem
    found, _, problem = shared.record(key)
    return found, problem


def obtain(home: Path, key: str) -> tuple[StageResult | None, str | None]:
    """As `look`, but a result that only the shared store has is fetched."""
    record, problem = inspect_record(home, key)
    shared = None if record is not None else shared_store(home)
    return (record, problem) if shared is None else shared.fetch(key)


def _result(key: str) -> str:
    return f"{RESULTS}/{key}.json"


def _safe(name: object) -> str:
    """A name of a manifest as a path that stays in its folder."""
    path = PurePosixPath(str(name))
    if path.is_absolute() or ".." in path.parts:
        raise SharedStoreError(f"a file of an artifact must lie in its folder, got {name}")
    return str(path)
