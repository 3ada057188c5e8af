"""Results, artifacts and checkpoints that machines share; the home is the cache in front of them.

Layout below the URL of `ROSITA_STORE`:

    artifacts/<digest>/files/...                  as in the local store
    artifacts/<digest>/manifest.json              written last: without it there is no artifact
    results/<stage key>.json                      written after its artifact; sealed
    checkpoints/<stage key>/<number>/files/...    the newest of a stage that is unfinished
    checkpoints/<stage key>/<number>/manifest.json
    checkpoints/<stage key>/<number>/about.json   written last; sealed
    locks/<stage key>/<number>                    see `tasks.store.shared_lease`
    damaged/...                                   what was of no use

Nothing of it is ever used without being verified against its digest in a local folder. What cannot
be used, whatever it holds, is a miss that says why; it is set aside before the stage is computed.
"""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

from pydantic import ValidationError

from tasks.cache.checkpoints import (
    ABOUT,
    PARTIAL,
    is_number,
    newest,
    next_number,
    parse_about,
)
from tasks.cache.documents import CheckpointAbout, SharedResult, StageResult
from tasks.cache.metric_history import fetched_history_path, observations
from tasks.cache.records import (
    inspect_record,
    makers,
    misplaced,
    read_record,
    record_content,
    verified_record,
)
from tasks.home import Home
from tasks.host.logs import warn
from tasks.store.artifacts import Store
from tasks.store.json_files import sealed, unsealed, write_json, write_whole
from tasks.store.manifests import FILES, MANIFEST, Manifest, manifest_problem, parse_manifest
from tasks.store.shared_files import SharedFiles, UnusableEntry, shared_files

ARTIFACTS, CHECKPOINTS, DAMAGED, RESULTS = "artifacts", "checkpoints", "damaged", "results"


class SharedStore:
    """What lies below one URL, for one home."""

    def __init__(self, files: SharedFiles, home: Path) -> None:
        self.files = files
        self.home = Path(home).absolute()
        self.store = Store(self.home)

    def record(self, key: str, stage: str) -> tuple[SharedResult | None, str | None]:
        """A result with what is told of it, and what is wrong with it."""
        content, problem = self._content(_result(key))
        if content is None:
            return None, problem
        try:
            found = SharedResult.model_validate(unsealed(content), strict=True)
        except ValidationError:
            problem = "its record is not the result of a stage"
        except ValueError as error:
            problem = f"its record {error}"
        else:
            problem = misplaced(found.result, key, stage)
            if found.provenance is not None and found.provenance.stage_key != key:
                problem = "its record has the provenance of another"
        return (None, f"{problem} (in the shared store)") if problem else (found, None)

    def look(self, key: str, stage: str) -> tuple[StageResult | None, str | None]:
        """As `tasks.cache.records.inspect_record`, but of the shared store, and without fetching.

        Of the artifact, names and sizes are compared; its bytes are when it is fetched.
        """
        found, problem = self.record(key, stage)
        if found is None:
            return None, problem
        artifact = found.result.artifact
        manifest, problem = self._manifest(artifact)
        if manifest is None:
            return None, problem
        sizes = self.files.sizes(f"{ARTIFACTS}/{artifact}/{FILES}")
        for name, size, _ in manifest:
            if sizes.get(name) != size:
                there = f"{sizes[name]} bytes" if name in sizes else "nothing"
                return None, f"its shared copy has {there} instead of {size} in {name}"
        return found.result, None

    def fetch(self, key: str, stage: str) -> tuple[StageResult | None, str | None]:
        """Bring a result and its artifact into the home.

        (result, None) when it is there and whole now, (None, None) when the shared store has none,
        (None, problem) when what it has cannot be used.
        """
        found, problem = self.record(key, stage)
        if found is None:
            return None, problem
        result = found.result
        if self.store.verify(result.artifact) is not None:
            problem = self._fetch_artifact(result.artifact)
            if problem is not None:
                return None, problem
        if found.provenance is not None:
            self.store.write_provenance(result.artifact, found.provenance.model_dump())
        # Also where nothing was reported: the file tells the result from one of this home.
        lines = "".join(f"{json.dumps(line.model_dump())}\n" for line in found.history)
        write_whole(fetched_history_path(self.home, stage, key), lines.encode())
        write_whole(Home(self.home).results / key, record_content(result))
        return result, None

    def publish(self, result: StageResult) -> int:
        """Put a result of the home there, its artifact first; the bytes that were sent."""
        key, artifact = result.key, result.artifact
        sent = self._publish_artifact(artifact)
        shared = {
            "result": result.model_dump(),
            "provenance": makers(self.home, artifact).get(key),
            "history": observations(self.home, result.stage, result.attempt, key),
        }
        self.files.write(_result(key), sealed(shared))
        return sent

    def set_aside(self, key: str, stage: str) -> None:
        """Take a result that cannot be used, or else its artifact with it, out of use."""
        found, _ = self.record(key, stage)
        self.files.move(_result(key), f"{_aside(key)}.json")
        if found is not None:
            artifact = found.result.artifact
            self.files.retire(f"{ARTIFACTS}/{artifact}", MANIFEST, _aside(artifact))

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

    def fetch_checkpoint(self, key: str, stage: str, again: bool) -> int | None:
        """Bring the newest checkpoint of a stage into the home, where it is ahead of what is there.

        One that cannot be used is set aside. Returns the units that were done in it, or None where
        nothing was fetched.

        Args:
            again: whether the stage is computed again on purpose; it goes on from a checkpoint of
                such an attempt only.
        """
        folder = f"{CHECKPOINTS}/{key}"
        for name in sorted(filter(is_number, self.files.names(folder)), key=int, reverse=True):
            about, problem = self._about(f"{folder}/{name}/{ABOUT}", stage)
            if about is not None:
                if again and not about.again:
                    return None
                here = newest(Home(self.home).checkpoints_of(key))
                if here is not None and again and not here.about.again:
                    here = None
                if here is not None and not about.is_ahead_of(here.about):
                    return None
                problem = self._fetch_checkpoint(f"{folder}/{name}", key, about)
                if problem is None:
                    return about.unit
            if problem is not None:
                self.files.retire(f"{folder}/{name}", ABOUT, _aside(f"{key}-{name}"))
                warn(
                    f"the shared checkpoint {name} of stage {stage} is damaged ({problem}) and "
                    "was set aside there"
                )
        return None

    def drop_checkpoints(self, key: str) -> None:
        """Remove those of a stage that is done."""
        self.files.remove(f"{CHECKPOINTS}/{key}")

    def _content(self, path: str) -> tuple[bytes | None, str | None]:
        """What a file holds, and why it cannot be read where that is its own fault."""
        try:
            return self.files.read(path), None
        except UnusableEntry as error:
            return None, str(error)

    def _manifest(self, digest: str) -> tuple[Manifest | None, str | None]:
        """The manifest of an artifact, or of any folder's where it has no digest to be named by."""
        copy = f"the shared copy of artifact {digest[:12]}"
        content, problem = self._content(f"{ARTIFACTS}/{digest}/{MANIFEST}")
        if content is None:
            return None, f"{copy}: {problem or f'{MANIFEST} is missing'}"
        try:
            return parse_manifest(content, digest), None
        except ValueError as error:
            return None, f"{copy}: {error}"

    def _about(self, path: str, stage: str) -> tuple[CheckpointAbout | None, str | None]:
        """What a checkpoint says of itself; neither where it is being written or removed."""
        content, problem = self._content(path)
        if content is None:
            return None, problem
        about, problem = parse_about(content)
        if about is not None and about.stage != stage:
            return None, f"it is one of stage {about.stage}"
        return about, problem

    def _fetch_checkpoint(self, folder: str, key: str, about: CheckpointAbout) -> str | None:
        """Download and verify a checkpoint; what is wrong with it, or None."""
        content, problem = self._content(f"{folder}/{MANIFEST}")
        if content is None:
            return problem or f"{MANIFEST} is missing"
        try:
            manifest = parse_manifest(content)
        except ValueError as error:
            return str(error)
        target = Home(self.home).checkpoints_of(key)
        number = max(int(folder.rpartition("/")[2]), next_number(target))
        partial = target / f"{PARTIAL}shared-{uuid.uuid4().hex}"
        try:
            problem = self._download(folder, manifest, partial)
            if problem is None:
                write_whole(partial / ABOUT, sealed(about.model_dump()))
                partial.rename(target / f"{number:06d}")
            return problem
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _fetch_artifact(self, digest: str) -> str | None:
        """Download, verify and adopt an artifact; what is wrong with it, or None."""
        manifest, problem = self._manifest(digest)
        if manifest is None:
            return problem
        with self.store.workspace() as files:
            problem = self._download(f"{ARTIFACTS}/{digest}", manifest, files.parent)
            if problem is None:
                self.store.adopt(files)
        return problem and f"the shared copy of artifact {digest[:12]}: {problem}"

    def _download(self, folder: str, manifest: Manifest, target: Path) -> str | None:
        """Bring the files of a manifest, and it, to a local folder; what is wrong with them."""
        try:
            for name, _, _ in manifest:
                self.files.get(f"{folder}/{FILES}/{name}", target / FILES / name)
        except UnusableEntry as error:
            return str(error)
        write_json(target / MANIFEST, manifest)
        return manifest_problem(target)

    def _publish_artifact(self, digest: str) -> int:
        folder = f"{ARTIFACTS}/{digest}"
        if self._manifest(digest)[0] is not None:
            return 0
        source = self.store.path(digest)
        manifest = parse_manifest((source.parent / MANIFEST).read_bytes(), digest)
        for name, _, _ in manifest:
            self.files.put(source / name, f"{folder}/{FILES}/{name}")
        self.files.write(f"{folder}/{MANIFEST}", json.dumps(manifest).encode())
        return sum(size for _, size, _ in manifest)


def shared_store(home: Path) -> SharedStore | None:
    """The shared store of this process, for a home; None where ROSITA_STORE is not set."""
    files = shared_files()
    return None if files is None else SharedStore(files, home)


def look(home: Path, key: str, stage: str) -> tuple[StageResult | None, str | None]:
    """As `inspect_record`, with the shared store behind the home. Fetches and writes nothing."""
    record, problem = inspect_record(home, key, stage)
    shared = None if record is not None else shared_store(home)
    if shared is None:
        return record, problem
    found, there = shared.look(key, stage)
    return (found, None) if found is not None else (None, problem or there)


def look_quickly(home: Path, key: str, stage: str) -> tuple[StageResult | None, str | None]:
    """As `look`, but artifacts are not looked at."""
    record, problem = read_record(home, key, stage)
    shared = None if record is not None else shared_store(home)
    if shared is None:
        return record, problem
    found, problem = shared.record(key, stage)
    return (None, problem) if found is None else (found.result, None)


def obtain(home: Path, key: str, stage: str) -> tuple[StageResult | None, str | None]:
    """As `look`, but a result that only the shared store has is fetched.

    It takes the place of a damaged one of the home, which is set aside.
    """
    record, problem = inspect_record(home, key, stage)
    shared = None if record is not None else shared_store(home)
    if shared is None:
        return record, problem
    if problem is not None and (record := without_damage(home, key, stage)) is not None:
        return record, None
    return shared.fetch(key, stage)


def without_damage(home: Path, key: str, stage: str) -> StageResult | None:
    """The result of a home that somebody may have mended; else what is left of it is set aside."""
    # Not above: commands that only look at the home do without Prefect.
    from tasks.cache.locks import StageLocks

    with StageLocks(Home(home).locks).held(key, f"shared-{uuid.uuid4().hex}"):
        record, problem = verified_record(home, key, stage)
    if problem is not None:
        warn(f"stage {stage}: {problem}. The damaged copy was set aside")
    return record


def _result(key: str) -> str:
    return f"{RESULTS}/{key}.json"


def _aside(name: str) -> str:
    return f"{DAMAGED}/{name}-{uuid.uuid4().hex}"
