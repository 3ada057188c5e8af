"""How lists, times, sizes and errors are written for people."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from tasks.host.redaction import redacted


def listed(names: tuple[str, ...]) -> str:
    """Names as people list them."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def when(timestamp: str) -> str:
    """A recorded time as people read it."""
    return f"{datetime.fromisoformat(timestamp):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def whole_duration(seconds: float) -> str:
    """A length of time to the second, or from an hour on to the minute."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: int) -> str:
    """Bytes in the unit that suits them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:,.1f} {unit}"
    return f"{count} B"


def shortened(text: str, most: int = 100) -> str:
    """One line of a message, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def error_line(error: Any) -> str:
    """An error as `Type: message`, without line breaks and without the secrets in addresses."""
    return redacted(" ".join(f"{type(error).__name__}: {error}".split()))


def trace_of(error: BaseException) -> str:
    """The traceback of an error for a file, without the secrets in addresses."""
    return redacted("".join(traceback.format_exception(error)))


def meant(word: str, known: Iterable[str]) -> str:
    """What somebody may have meant by a word that is not known, as the end of a sentence."""
    found = get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def counted(count: int, what: str) -> str:
    """A number of things."""
    return f"{count} {what}{'' if count == 1 else 's'}"
