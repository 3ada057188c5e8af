"""What a checkpoint takes on disk."""

from __future__ import annotations

from pathlib import Path

BYTES_PER_MB = 10**6


def disk_mb(folder: Path) -> float:
    """Size of all files below `folder`, in MB (10^6 bytes).

    Bytes of content, not blocks of the file system, so that the same checkpoint has the same size
    everywhere. A link to a file counts as the file: a hub cache consists of links.

    Raises:
        ValueError: where `folder` is no directory.
    """
    if not folder.is_dir():
        raise ValueError(f"checkpoint must be a directory to measure its size, got {folder}")
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / BYTES_PER_MB
