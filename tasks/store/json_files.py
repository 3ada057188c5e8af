"""JSON as the project writes it, and as anyone may have written it.

A sealed document carries its own digest:

    {"content": ..., "digest": "<sha256 of the content>"}

A digit that was flipped on disk, or a text cut short, is noticed. That somebody wrote another
document in its place is not: what is read from it has to fit its schema as well.
"""

import errno
import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

from tasks.store.durable import to_disk

CONTENT, DIGEST = "content", "digest"
UNREADABLE = "is not readable JSON"
UNSEALED = "carries no digest of its own, as those of earlier versions"
CHANGED = "has changed since it was written"


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_digest(value: Any) -> str:
    """The sha256 (64 hexadecimal digits) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def is_digest(text: Any) -> bool:
    """Whether a name is that of an artifact or a stage key."""
    return isinstance(text, str) and len(text) == 64 and not set(text) - set("0123456789abcdef")


def read_file(path: Path) -> bytes:
    """The content of a plain file. Raises OSError for anything else: a pipe would never end."""
    return plain(path).read_bytes()


def plain(path: Path) -> Path:
    """The path. Raises OSError where something else than a plain file lies there."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EISDIR, "it is not a plain file", str(path))
    return path


def read_json(content: bytes) -> Any:
    """The value of a JSON text. Raises ValueError for whatever is none."""
    try:
        value = json.loads(content)
        # Half of a pair of surrogates could not be shown or written down again.
        json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError:
        raise ValueError("JSON must be nested less deeply") from None


def write_json(path: Path, value: Any, sort: bool = True) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part.

    That holds after a loss of power, too: the new one is on disk before it takes the name. Without
    `sort` the names stay in their order, where that says something.
    """
    write_whole(path, (json.dumps(value, indent=1, sort_keys=sort) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """As `write_json`, for any content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sealed(value: Any) -> bytes:
    """JSON-able values as a document with its digest; infinities and NaN are kept."""
    document = {CONTENT: value, DIGEST: _digest(value)}
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def unsealed(content: bytes) -> Any:
    """The value that `sealed` was given. Raises ValueError that says in a few words why not."""
    try:
        document = read_json(content)
        if not isinstance(document, dict) or document.keys() != {CONTENT, DIGEST}:
            problem = UNSEALED
        else:
            problem = "" if document[DIGEST] == _digest(document[CONTENT]) else CHANGED
    except (ValueError, RecursionError):
        problem = UNREADABLE
    if problem:
        raise ValueError(problem)
    return document[CONTENT]


def _digest(value: Any) -> str:
    # Canonical JSON, which keys are made of, has no NaN; a metric may be one.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
