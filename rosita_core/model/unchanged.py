"""Whether files that a key knows by their digest are the same after they were read.

They are digested when a run is planned and read when a stage begins, which may be days later. A
stage that read something else would leave it under a key that says otherwise, for ever.
"""

from __future__ import annotations

from pathlib import Path

from rosita_core.model.locate import (
    CHECKPOINT_FILES,
    TOKENIZER_FILES,
    files_digest_now,
    place_of,
    with_class,
)


def check_weights_unchanged(folder: Path, digest: str) -> None:
    """Call it after a checkpoint was loaded. Raises ValueError where it is not what it was."""
    _check("teacher.model", folder, digest, files_digest_now(folder, CHECKPOINT_FILES))


def check_tokenizer_unchanged(folder: Path, digest: str) -> None:
    """The same of a tokenizer."""
    now = with_class(folder, files_digest_now(folder, TOKENIZER_FILES))
    _check("tokenizer of teacher.model", folder, digest, now)


def check_proposer_unchanged(folder: Path, digest: str) -> None:
    """The same of a masked language model with its tokenizer."""
    now = files_digest_now(folder, CHECKPOINT_FILES + TOKENIZER_FILES)
    _check("augment.proposers.mlm", folder, digest, now)


def check_vectors_unchanged(path: Path, digest: str) -> None:
    """The same of word vectors, a directory or a file."""
    _check("augment.proposers.vectors", path, digest, files_digest_now(*place_of(path)))


def _check(what: str, path: Path, before: str, now: str) -> None:
    if now != before:
        raise ValueError(
            f"{what} must stay as it was when the run began, got other content in {path}; "
            "the same command begins with what is there now"
        )
