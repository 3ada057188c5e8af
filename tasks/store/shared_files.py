"""Files below one URL that many machines see: a bucket or a shared folder, through fsspec.

`ROSITA_STORE` names it. Credentials come from the environment of the protocol's own library (AWS_*
for s3) and are never part of the URL. Without the variable nothing here is used, and fsspec is not
imported.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks.host.private_files import make_folder, users_mode
from tasks.host.redaction import redacted
from tasks.store.disk import is_full, no_room
from tasks.store.json_files import plain, read_file

VARIABLE = "ROSITA_STORE"
PROTOCOLS = ("abfs", "file", "gs", "s3")
"""Those that can create a file only where there is none, in one step: locks are made of that."""

OF_ONE_PATH = (errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""What a system says of something else than a file, or of one that only another user may read."""

AT_ONCE = 4
"""Writers of the same file when the store is tried."""
CONNECT_SECONDS, READ_SECONDS, TRIES = 5, 60, 3


class SharedStoreError(OSError):
    """The shared store did not do what was asked; the message names it and the cause."""


class UnusableEntry(SharedStoreError):
    """The shared store works, and what lies under the path is no file that can be used."""


class SharedFiles:
    """Files below a URL, by paths relative to it. Every failure is a SharedStoreError."""

    def __init__(self, url: str) -> None:
        """Raises ValueError where the URL cannot be used, naming the variable and the reason."""
        self.url = url.rstrip("/")
        """As shown to people; it holds no secret."""
        protocol = _protocol(url)
        from fsspec.core import url_to_fs

        try:
            self._system, self._root = url_to_fs(
                self.url, skip_instance_cache=True, use_listings_cache=False, **_options(protocol)
            )
        except ImportError as error:
            raise ValueError(
                f"{VARIABLE} must be a URL whose protocol is installed, got {url}: {error}; "
                f"install rosita with the extra {protocol}, or that package"
            ) from None
        except Exception as error:
            raise ValueError(f"{VARIABLE} cannot be used, got {url}: {_line(error)}") from None
        self._local = protocol == "file"

    def read(self, path: str) -> bytes | None:
        """The content of a file; None where there is none."""
        with self._named(path):
            try:
                if self._local:
                    return read_file(Path(self._at(path)))
                return bytes(self._system.cat_file(self._at(path)))
            except FileNotFoundError:
                return None

    def write(self, path: str, content: bytes) -> None:
        """Write a file; a reader sees the old content or the new one."""
        with self._named(path):
            if not self._local:
                self._system.pipe_file(self._at(path), content)
                return
            with self._partial(path) as temporary:
                temporary.write_bytes(content)

    def create(self, path: str, content: bytes) -> bool:
        """Write a file that is not there; False where there is one. One of many callers wins."""
        with self._named(path):
            try:
                if self._local:
                    self._create_locally(Path(self._at(path)), content)
                else:
                    self._system.pipe_file(self._at(path), content, mode="create")
            except FileExistsError:
                return False
            return True

    def _create_locally(self, place: Path, content: bytes) -> None:
        try:
            make_folder(place.parent)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(place.parent)) from None
        with place.open("xb") as file:
            os.fchmod(file.fileno(), users_mode(0o666))
            file.write(content)

    @contextmanager
    def _partial(self, path: str) -> Iterator[Path]:
        """A file to be written, which takes the place of one of a shared folder when it is whole.

        The folder is for all machines, unlike a home.
        """
        temporary = Path(self._at(f"{path}.{uuid.uuid4().hex}.partial"))
        make_folder(temporary.parent)
        try:
            yield temporary
            temporary.chmod(users_mode(0o666))
            temporary.replace(self._at(path))
        finally:
            temporary.unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """What lies in a folder, sorted; empty where there is no such folder."""
        with self._named(folder):
            try:
                found = self._system.ls(self._at(folder), detail=False)
            except FileNotFoundError:
                return []
        return sorted(
            name
            for path in found
            if not (name := str(path).rstrip("/").rpartition("/")[2]).endswith(".partial")
        )

    def sizes(self, folder: str) -> dict[str, int]:
        """Relative path -> bytes of every file below a folder."""
        with self._named(folder):
            try:
                found = self._system.find(self._at(folder), detail=True)
            except FileNotFoundError:
                return {}
        prefix = len(self._at(folder).rstrip("/")) + 1
        return {str(path)[prefix:]: int(about["size"]) for path, about in found.items()}

    def put(self, local: Path, path: str) -> None:
        """Copy a local file there. Raises FileNotFoundError where the local one is gone."""
        with self._named(path):
            try:
                if self._local:
                    with self._partial(path) as temporary:
                        shutil.copyfile(local, temporary)
                else:
                    self._system.put_file(str(local), self._at(path))
            except FileNotFoundError:
                if local.exists():
                    raise
                gone = True
            else:
                gone = False
        if gone:
            raise FileNotFoundError(str(local))

    def get(self, path: str, local: Path) -> bool:
        """Copy a file to a local path; False where there is none.

        Raises:
            DiskFull: where there is no room for it here, which is no fault of the store.
        """
        local.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._named(path):
                if self._local:
                    shutil.copyfile(plain(Path(self._at(path))), local)
                else:
                    self._system.get_file(self._at(path), str(local))
        except SharedStoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return False
            if error.__cause__ is not None and is_full(error.__cause__):
                raise no_room(f"{self.url}/{path}", local.parent) from error
            raise
        return True

    def retire(self, folder: str, last: str, target: str) -> None:
        """Take a folder out of use: move it, or where that takes many steps the file written last.

        Without that file the rest counts as unfinished, and is written over.
        """
        if self._local:
            self.move(folder, target)
        else:
            self.move(f"{folder}/{last}", f"{target}/{last}")

    def move(self, path: str, target: str) -> None:
        """Give a small file another name; nothing where there is none.

        In a shared folder it may be anything, which is moved as it is.
        """
        if self._local:
            with self._named(path):
                place, aside = Path(self._at(path)), Path(self._at(target))
                make_folder(aside.parent)
                with suppress(FileNotFoundError):
                    place.rename(aside)
        elif (content := self.read(path)) is not None:
            self.write(target, content)
            self.remove(path)

    def remove(self, path: str) -> None:
        """Remove a file or a folder; one that is gone already is no error."""
        with self._named(path):
            try:
                self._system.rm(self._at(path), recursive=True)
            except FileNotFoundError:
                return

    def check(self, write: bool) -> None:
        """Ask it whether it works.

        Args:
            write: whether also to try what locks need: that one of many creates a file.

        Raises:
            SharedStoreError: where it does not.
        """
        if not write:
            with self._named("results"):
                # A folder that is not there yet is an empty store; a bucket must be there.
                if not self._local:
                    self._system.ls(self._root.partition("/")[0])
            self.names("results")
            return
        path = f"probe/{uuid.uuid4().hex}"
        contents = [str(number).encode() for number in range(AT_ONCE)]
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                created = sum(pool.map(lambda content: self.create(path, content), contents))
            # Some servers check first and write then, so that several find nothing there.
            if created != 1 or self.create(path, b"late"):
                raise SharedStoreError(
                    f"{self.url}: {created} of {AT_ONCE} created the same file, where one "
                    "must; a store without atomic conditional writes cannot hold locks"
                )
        finally:
            self.remove(path)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextmanager
    def _named(self, path: str) -> Iterator[None]:
        try:
            yield
        except SharedStoreError:
            raise
        except Exception as error:
            kind = UnusableEntry if self._is_of_entry(error) else SharedStoreError
            raise kind(f"{self.url}/{path}: {_line(error)}") from error

    def _is_of_entry(self, error: Exception) -> bool:
        """Whether an error is the fault of one path below a shared folder that itself works."""
        if not self._local or not isinstance(error, OSError) or error.errno not in OF_ONE_PATH:
            return False
        return Path(self._root).is_dir() and os.access(self._root, os.R_OK | os.X_OK)


def configured() -> str | None:
    """The URL of the shared store; None where there is none."""
    return os.environ.get(VARIABLE) or None


def shared_files() -> SharedFiles | None:
    """The files of the shared store of this process. Raises ValueError for a wrong URL."""
    url = configured()
    return None if url is None else _opened(url, os.getpid())


@lru_cache(maxsize=8)
def _opened(url: str, process: int) -> SharedFiles:
    # Connections do not survive a fork, so each process opens its own.
    return SharedFiles(url)


def checked_files(write: bool) -> SharedFiles | None:
    """`shared_files`, once they have answered in this process.

    Raises:
        ValueError: one line naming the variable, the URL and what is wrong.
    """
    url = configured()
    return None if url is None else _answering(url, write, os.getpid())


@lru_cache(maxsize=8)
def _answering(url: str, write: bool, process: int) -> SharedFiles:
    files = _opened(url, process)
    try:
        files.check(write)
    except SharedStoreError as error:
        raise ValueError(f"{VARIABLE} must be a store that works, got {error}") from None
    return files


def _protocol(url: str) -> str:
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query:
        raise ValueError(
            f"{VARIABLE} must hold no credentials, which belong in the environment, got "
            f"{redacted(url).partition('?')[0]}"
        )
    if not parts.scheme and url.startswith("/"):
        return "file"
    if parts.scheme not in PROTOCOLS or not (parts.netloc or parts.path):
        known = ", ".join(f"{name}://" for name in PROTOCOLS)
        raise ValueError(f"{VARIABLE} must be a URL that begins with {known}, got {url}")
    if parts.scheme == "file" and not (parts.path.startswith("/") and not parts.netloc):
        raise ValueError(f"{VARIABLE} must be file:// and an absolute path, got {url}")
    return parts.scheme


def _options(protocol: str) -> dict[str, Any]:
    if protocol == "s3":
        retries = {"max_attempts": TRIES, "mode": "standard"}
        times = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS}
        return {"config_kwargs": {**times, "retries": retries}}
    return {}


def _line(error: BaseException) -> str:
    """An error in one line, without the secrets of an address in it."""
    if isinstance(error, FileNotFoundError) and error.args and not error.errno:
        return redacted(" ".join(str(error.args[0]).split())) or "not found"
    return redacted(" ".join(f"{type(error).__name__}: {error}".split()))
