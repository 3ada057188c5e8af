"""The artifact store: immutable directories named by the digest of their content.

Layout below the root, with one folder per artifact:

    <digest>/files/...                      the content; files are read-only
    <digest>/manifest.json                  [path, size, sha256] of every file, sorted by path
    <digest>/provenance/<stage key>.json    who made it; outside the digest
    damaged/<digest>-<n>/                   artifacts that failed verification
    tmp/<random>/                           artifacts being written

Callers use digests and local directories only, so that a store behind a URL can take the place of
this one.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.home import Home
from tasks.store.durable import to_disk, tree_to_disk
from tasks.store.workspaces import workspace

FILES = "files"
MANIFEST = "manifest.json"
PROVENANCE = "provenance"
# What the system says of a rename onto a folder that holds something.
ALREADY_THERE = (errno.ENOTEMPTY, errno.EEXIST)

logger = logging.getLogger(__name__)

Manifest = list[list[str | int]]  # [relative path, size in bytes, sha256], sorted by path


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_digest(value: Any) -> str:
    """The sha256 (64 hexadecimal digits) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def write_json(path: Path, value: Any, sort: bool = True) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part.

    That holds after a loss of power, too: the new one is on disk before it takes the name. Without
    `sort` the names stay in their order, where that says something.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=sort) + "\n", encoding="utf-8")
        to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def build_manifest(directory: Path) -> Manifest:
    """[relative path, size in bytes, sha256] of every file below a directory, sorted by path.

    Raises ValueError when there is no file, or when there is something other than plain files and
    folders (a symbolic link would let content change behind its digest).
    """
    manifest: Manifest = []
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"an artifact holds plain files only, got {path.name} in {directory}")
        if path.is_file():
            name = path.relative_to(directory).as_posix()
            manifest.append([name, path.stat().st_size, _file_digest(path)])
    if not manifest:
        raise ValueError(f"an artifact must hold at least one file, got none in {directory}")
    return sorted(manifest, key=lambda entry: str(entry[0]))


def manifest_problem(folder: Path, digest: str | None = None) -> str | None:
    """None when `folder`/files is what `folder`/manifest.json says, else one line about it.

    Sizes are compared before any file is read; then every byte is hashed. `digest`, where it is
    given, is the digest that the manifest must have.
    """
    files = folder / FILES
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except ValueError:
        return f"{MANIFEST} is not readable JSON"
    if digest is not None and json_digest(manifest) != digest:
        return f"{MANIFEST} does not have the digest of the artifact"
    present = {path.relative_to(files).as_posix() for path in files.rglob("*") if not path.is_dir()}
    if extra := sorted(present - {name for name, _, _ in manifest}):
        return f"{extra[0]} does not belong to the artifact"
    for name, size, _ in manifest:
        if name not in present:
            return f"{name} is missing"
        if (found := (files / name).stat().st_size) != size:
            return f"{name} has {found} bytes instead of {size}"
    for name, _, expected in manifest:
        if _file_digest(files / name) != expected:
            return f"{name} has changed"
    return None


class Store:
    """Artifacts below `<home>/store`; safe for several processes and machines at once."""

    def __init__(self, home: Path) -> None:
        self._home = Home(home)
        self.root = self._home.store

    def path(self, digest: str) -> Path:
        """The local directory of the artifact's files. It need not exist."""
        return self.root / _checked(digest) / FILES

    def digests(self) -> list[str]:
        """The digests of all artifacts, sorted; nothing is verified."""
        if not self.root.is_dir():
            return []
        return sorted(entry.name for entry in self.root.iterdir() if is_digest(entry.name))

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """An empty directory inside the store's filesystem, removed when the block ends.

        Fill it and pass it to `adopt`, which moves it away without copying. What killed processes
        left there goes first.
        """
        with workspace(self._home.unfinished_artifacts) as staging:
            files = staging / FILES
            files.mkdir()
            yield files

    def put(self, directory: Path) -> str:
        """Copy a directory into the store and return its digest. Raises as `build_manifest`."""
        build_manifest(directory)
        with self.workspace() as files:
            shutil.copytree(directory, files, dirs_exist_ok=True)
            return self.adopt(files)

    def adopt(self, files: Path) -> str:
        """Move the directory of a `workspace` into the store and return its digest.

        When the content is already there and intact, the new copy is dropped and the artifact
        counts as used now; a damaged one is set aside and replaced. What is in the store is on
        disk. Raises as `build_manifest`.
        """
        staging = files.parent
        manifest = build_manifest(files)
        digest = json_digest(manifest)
        write_json(staging / MANIFEST, manifest)
        for path in [
            staging / MANIFEST,
            *(files / str(entry[0]) for entry in manifest),
        ]:
            path.chmod(path.stat().st_mode & ~0o222)
        target = self.root / digest
        tree_to_disk(staging)
        while True:
            try:
                staging.rename(target)
                break
            except OSError as error:
                if error.errno not in ALREADY_THERE:
                    raise
            # Noted before it is looked at: what was used just now is not freed.
            _note_use(target)
            if self.verify(digest) is None:
                break
            self.set_aside(digest)
        to_disk(self.root)
        return digest

    def verify(self, digest: str) -> str | None:
        """None when the artifact is whole, else one line that says what is wrong with it.

        Sizes are compared before any file is read; then every byte is hashed.
        """
        folder = self.root / _checked(digest)
        if not folder.is_dir():
            return "the artifact is missing"
        return manifest_problem(folder, digest)

    def set_aside(self, digest: str) -> Path | None:
        """Move an artifact to `damaged/<digest>-<n>`; None when there is nothing to move."""
        source = self.root / _checked(digest)
        damaged = self._home.damaged_artifacts
        damaged.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            target = damaged / f"{digest}-{number}"
            number += 1
            if target.exists():
                continue
            try:
                return source.rename(target)
            except FileNotFoundError:
                return None
            except OSError:
                # Lost a race for this number; a failure of another kind shows no target.
                if not target.exists():
                    raise

    def provenance(self, digest: str) -> dict[str, dict[str, Any]]:
        """What is known of the artifact's makers: stage key -> what `write_provenance` was given.

        A record that cannot be read is left out: provenance is a note, not part of the content.
        """
        records: dict[str, dict[str, Any]] = {}
        for path in sorted((self.root / _checked(digest) / PROVENANCE).glob("*.json")):
            try:
                records[path.stem] = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                continue
        return records

    def write_provenance(self, digest: str, record: Mapping[str, Any]) -> None:
        """Note beside an artifact who made it; `record["stage_key"]` names the note.

        Raises ValueError when the artifact is not in the store or the record has no stage key.
        """
        folder = self.root / _checked(digest)
        if not folder.is_dir():
            raise ValueError(f"artifact must be in the store, got {digest}")
        if not record.get("stage_key"):
            raise ValueError("provenance must have a stage_key, got none")
        write_json(folder / PROVENANCE / f"{record['stage_key']}.json", dict(record))


def _note_use(folder: Path) -> None:
    try:
        os.utime(folder)
    except FileNotFoundError:
        logger.debug("artifact %s was freed just now", folder.name[:12])
    except OSError as error:
        # Another user's artifact in a shared store is as good.
        logger.warning("the use of %s could not be noted: %s", folder.name[:12], error.strerror)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_digest(text: str) -> bool:
    """Whether a name is that of an artifact or a stage key."""
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _checked(digest: str) -> str:
    if not is_digest(digest):
        raise ValueError(f"digest must be 64 hexadecimal digits, got {digest!r}")
    return digest


def free_bytes(path: Path) -> int:
    """Bytes that can still be written at a path; its nearest existing parent decides."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def is_writable(path: Path) -> bool:
    """Whether files can be created at a path or, when it does not exist, in its parent."""
    while not path.exists():
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)
