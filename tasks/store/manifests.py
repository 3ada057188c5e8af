"""The manifest of a folder: [relative path, size in bytes, sha256] of every file, sorted by path.

An artifact and a checkpoint are a folder `files` with its `manifest.json` beside it. A manifest may
come from another machine, so its names are checked before one of them becomes a path.
"""

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.store.json_files import is_digest, json_digest, read_file, read_json

FILES = "files"
MANIFEST = "manifest.json"
LONGEST_PART, LONGEST_NAME = 255, 1024
"""Bytes of a file's name, and of its path in the folder, that every filesystem takes."""

Manifest = list[tuple[str, int, str]]


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
            manifest.append((name, path.stat().st_size, _file_digest(path)))
    if not manifest:
        raise ValueError(f"an artifact must hold at least one file, got none in {directory}")
    return sorted(manifest)


def parse_manifest(content: bytes, digest: str | None = None) -> Manifest:
    """The manifest in a text that anyone may have written.

    Every name is a path that stays in its folder, and no two of them are in each other's way.

    Args:
        digest: that the manifest must have, where it is known.

    Raises:
        ValueError: that says in a few words what is wrong with it.
    """
    try:
        value = read_json(content)
        is_other = digest is not None and json_digest(value) != digest
    except (ValueError, RecursionError):
        raise ValueError(f"{MANIFEST} is not readable JSON") from None
    if is_other:
        raise ValueError(f"{MANIFEST} does not have the digest of the artifact")
    if not isinstance(value, list) or not value or not all(map(_is_entry, value)):
        raise ValueError(f"{MANIFEST} is not a list of files")
    manifest: Manifest = [(name, size, sha256) for name, size, sha256 in value]
    names = {name for name, _, _ in manifest}
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    if len(names) < len(manifest) or names & folders:
        raise ValueError(f"{MANIFEST} names a file twice")
    return manifest


def manifest_problem(folder: Path, digest: str | None = None) -> str | None:
    """None when `folder`/files is what `folder`/manifest.json says, else one line about it.

    Sizes are compared before any file is read; then every byte is hashed. `digest`, where it is
    given, is the digest that the manifest must have. Nothing that lies there makes it raise.
    """
    try:
        return _problem(folder, digest)
    except OSError as error:
        where = Path(str(error.filename or folder)).name
        return f"{where} cannot be read: {error.strerror or error}"


def _problem(folder: Path, digest: str | None) -> str | None:
    files = folder / FILES
    try:
        manifest = parse_manifest(read_file(folder / MANIFEST), digest)
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except ValueError as error:
        return str(error)
    present = {path.relative_to(files).as_posix() for path in files.rglob("*") if not path.is_dir()}
    if extra := sorted(present - {name for name, _, _ in manifest}):
        return f"{extra[0]} does not belong to the artifact"
    for name, size, _ in manifest:
        if name not in present:
            return f"{name} is missing"
        if not (files / name).is_file():
            return f"{name} is not a file"
        if (found := (files / name).stat().st_size) != size:
            return f"{name} has {found} bytes instead of {size}"
    for name, _, expected in manifest:
        if _file_digest(files / name) != expected:
            return f"{name} has changed"
    return None


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, list) or len(entry) != 3:
        return False
    name, size, sha256 = entry
    return is_safe_name(name) and type(size) is int and size >= 0 and is_digest(sha256)


def is_safe_name(name: Any) -> bool:
    """Whether a text is a path that stays in its folder, as `build_manifest` writes it."""
    if not isinstance(name, str) or not name or not name.isprintable():
        return False
    path = PurePosixPath(name)
    if path.is_absolute() or str(path) != name or ".." in path.parts:
        return False
    parts = [len(part.encode()) for part in path.parts]
    return max(parts) <= LONGEST_PART and len(name.encode()) <= LONGEST_NAME


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
