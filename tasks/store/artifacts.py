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
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tasks.home import Home
from tasks.store.durable import to_disk, tree_to_disk
from tasks.store.json_files import is_digest, json_digest, read_file, read_json, write_json
from tasks.store.manifests import FILES, MANIFEST, build_manifest, manifest_problem
from tasks.store.removal import set_aside
from tasks.store.workspaces import workspace

PROVENANCE = "provenance"
# What the system says of a rename onto a folder that holds something.
ALREADY_THERE = (errno.ENOTEMPTY, errno.EEXIST)

logger = logging.getLogger(__name__)


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
            *(files / name for name, _, _ in manifest),
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
        return set_aside(self.root / _checked(digest), self._home.damaged_artifacts / digest)

    def provenance(self, digest: str) -> dict[str, Any]:
        """What is noted of the artifact's makers: stage key -> JSON that anyone may have written.

        What cannot be read is left out: provenance is a note, not part of the content.
        """
        notes: dict[str, Any] = {}
        for path in sorted((self.root / _checked(digest) / PROVENANCE).glob("*.json")):
            if is_digest(path.stem):
                with suppress(OSError, ValueError):
                    notes[path.stem] = read_json(read_file(path))
        return notes

    def write_provenance(self, digest: str, note: Mapping[str, Any]) -> None:
        """Note beside an artifact who made it; `note["stage_key"]` names the note.

        Raises ValueError when the artifact is not in the store or the note has no stage key.
        """
        folder = self.root / _checked(digest)
        if not folder.is_dir():
            raise ValueError(f"artifact must be in the store, got {digest}")
        if not is_digest(key := note.get("stage_key")):
            raise ValueError(f"stage_key must be 64 hexadecimal digits, got {key!r}")
        write_json(folder / PROVENANCE / f"{key}.json", dict(note))


def _note_use(folder: Path) -> None:
    try:
        os.utime(folder)
    except FileNotFoundError:
        logger.debug("artifact %s was freed just now", folder.name[:12])
    except OSError as error:
        # Another user's artifact in a shared store is as good.
        logger.warning("the use of %s could not be noted: %s", folder.name[:12], error.strerror)


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
