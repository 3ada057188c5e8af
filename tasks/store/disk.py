"""A full disk, told from other failures, whichever library met it."""

import errno
import re
from pathlib import Path

from tasks.store.artifacts import free_bytes

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(OSError):
    """Something could not be written for want of room; the message says what and where."""


def is_full(error: BaseException) -> bool:
    """Whether an error means that there was no room.

    safetensors has an error of its own, which names the system's number in its text only.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    number = re.search(r"\(os error (\d+)\)", str(error))
    return number is not None and int(number[1]) in FULL


def no_room(what: str, folder: Path) -> DiskFull:
    """The error for the user: what there was no room for, and where."""
    free = f"{free_bytes(folder) / 1e6:,.1f} MB free in {folder}"
    return DiskFull(
        f"no room for {what}: {free}; free some and start it again, it goes on from the last "
        "checkpoint"
    )
